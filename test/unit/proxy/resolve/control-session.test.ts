import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Credential } from '../../../../proxy/credentials/credential.ts'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../../../proxy/credentials/trust.ts'
import { ControlSession } from '../../../../proxy/resolve/control-session.ts'
import { createDirectory } from '../../../../proxy/resolve/directory.ts'
import { systemClock } from '../../../../shared/clock.ts'
import type { AddressEntry, FromSidecar, Subscribe } from '../../../../shared/control/messages.ts'
import { live } from '../../../../shared/live.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { scriptedApi } from '../../../support/scripted-api.ts'

const TRUST_DOMAIN = 'cluster.local'
const authority = await testAuthority(TRUST_DOMAIN)
const sidecar = await authority.issue({ identity: 'spiffe://cluster.local/ns/shop/sa/cart' })
const injector = {
  identity: parseSpiffeId('spiffe://cluster.local/ns/postern-system/sa/postern-injector').id,
  trustDomain: TRUST_DOMAIN,
  address: '127.0.0.1',
  serial: '01',
  notAfter: new Date(Date.now() + 3_600_000),
  certificateHash: 'ab'.repeat(32),
}

const address = (n: number): string => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`

/** What a sidecar that already uses `used` addresses sends while its application dials a new one each 10 ms. */
async function scan(t: Test, used: number, forMs: number): Promise<readonly Subscribe[]> {
  await using api = await scriptedApi({ username: '', podUid: '' })
  api.trust = { 'trust-domain': TRUST_DOMAIN, 'roots.pem': authority.root }
  const volume = openStateVolume(scratchDirectory(t), error => t.fail(error.message))
  const trust = await openTrustStore(api.kube, TRUST_DOMAIN, volume)
  const stopping = new AbortController()
  await trust.refresh(stopping.signal)
  const entries = Array.from(
    { length: used },
    (_, n): AddressEntry => ({ kind: 'plain', address: address(n) }),
  )
  const directory = createDirectory(systemClock, entries)
  const sent: FromSidecar[] = []
  const context = {
    hello: { podUid: 'pod-1', version: 'test', features: [] },
    credential: live<Credential | undefined>(sidecar.credential()),
    renewal: () => ({}),
    trust,
    directory,
    state: live(undefined),
    clock: systemClock,
    random: Math.random,
    observe: () => {},
    heartbeatMs: 5_000,
    lostAfterMs: 15_000,
  }
  const session = new ControlSession(context, {
    injector,
    leadsTo: () => true,
    features: () => [],
    send: message => sent.push(message),
    received: async function* () {
      await delay(60_000, undefined, { signal: stopping.signal }).catch(() => undefined)
    },
    [Symbol.dispose]: () => {},
  })
  const held = session.hold(sidecar.credential(), stopping.signal)
  const hungUp = AbortSignal.abort()
  const started = performance.now()
  for (let n = used; performance.now() - started < forMs; n++) {
    void directory.lookup(address(n), hungUp).catch(() => undefined)
    await delay(10)
  }
  stopping.abort()
  await held.catch(() => undefined)
  return sent.filter(message => message.kind === 'subscribe')
}

t.test('a new address is asked about at once, further ones every 50 ms', async t => {
  const sent = await scan(t, 0, 600)
  t.ok(sent.length > 6 && sent.length <= 16, `${sent.length} messages`)
  t.same(sent[1]?.addresses, [address(0)])
})

t.test('a scan of thousands of addresses is told in few messages, each of which is whole', async t => {
  const sent = await scan(t, 9_000, 600)
  const [first, second, ...others] = sent
  t.equal(first?.addresses.length, 9_000)
  t.equal(second?.addresses.length, 9_001, 'the first of them is not delayed')
  t.same(others, [], 'where 50 ms would have made twelve of 130 KB')
})
