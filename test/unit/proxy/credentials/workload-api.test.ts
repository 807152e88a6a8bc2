import { existsSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import t, { type Test } from 'tap'
import type { Credential } from '../../../../proxy/credentials/credential.ts'
import type { IssuanceEvent } from '../../../../proxy/credentials/csr-source.ts'
import { checkOffer } from '../../../../proxy/credentials/offer.ts'
import { offeredCredentials } from '../../../../proxy/credentials/offered-source.ts'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../../../proxy/credentials/trust.ts'
import { workloadApi } from '../../../../proxy/credentials/workload-api.ts'
import { svidFor } from '../../../../proxy/credentials/workload-api-message.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { live, until } from '../../../../shared/live.ts'
import { type Issued, testAuthority } from '../../../support/certificates.ts'
import { IDENTITY } from '../../../support/offered-pod.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { scriptedApi } from '../../../support/scripted-api.ts'
import { field, response, serveWorkloadApi, svidFields, varint } from '../../../support/workload-api.ts'

const OTHER = 'spiffe://cluster.local/ns/shop/sa/other'
const ours = await testAuthority('cluster.local')
const foreign = await testAuthority('cluster.local')
const issuer = await ours.intermediate()
const issue = (identity: string = IDENTITY, from = issuer) => from.issue({ identity })
const [first, second, others] = await Promise.all([issue(), issue(), issue(OTHER)])

const given = ({ key, chain }: Issued, identity: string = IDENTITY) => ({
  identity,
  key,
  chain,
  bundle: [ours.root],
})

const NOTHING = 'nothing' as const

/** A sidecar at an agent's socket, in real time. */
async function sidecar(t: Test, { speed = 1 } = {}) {
  const directory = scratchDirectory(t)
  const socket = join(directory, 'agent.sock')
  const api = await scriptedApi({ podUid: '5f2a-11', username: 'system:serviceaccount:shop:cart' })
  t.teardown(() => api[Symbol.asyncDispose]())
  api.trust = { 'trust-domain': 'cluster.local', 'roots.pem': ours.root }
  const events: IssuanceEvent[] = []
  const event = live<IssuanceEvent | undefined>(undefined)
  const credential = live<Credential | undefined | typeof NOTHING>(NOTHING)
  const clock = {
    now: systemClock.now,
    monotonic: () => systemClock.monotonic() * speed,
    sleep: (ms: number, signal: AbortSignal) => systemClock.sleep(ms / speed, signal),
  }
  const start = async () => {
    const stopping = new AbortController()
    const volume = openStateVolume(directory, error => t.fail(error.message))
    const source = offeredCredentials(
      signal => workloadApi({ identity: IDENTITY, socket, clock, random: () => 0.5 }, signal),
      {
        identity: IDENTITY,
        trust: await openTrustStore(api.kube, 'cluster.local', volume),
        volume,
        clock,
        skew: { ms: undefined, observe: () => {} },
        random: () => 0.5,
        observe: next => {
          events.push(next)
          event.set(next)
        },
      },
    )
    const running = (async () => {
      for await (const next of source(stopping.signal)) credential.set(next)
    })()
    const stop = async () => {
      stopping.abort()
      await running
    }
    t.teardown(stop)
    return { stop }
  }
  const signal = AbortSignal.timeout(20_000)
  const holds = (serial: string | undefined) =>
    until(credential, (now): now is Credential => now !== NOTHING && now?.serial === serial, signal)
  const lost = () => until(credential, (now): now is undefined => now === undefined, signal)
  const told = (what: string) =>
    until(
      event,
      (now): now is IssuanceEvent =>
        now !== undefined && (now.kind === what || ('error' in now && now.error.code === what)),
      signal,
    )
  return { directory, socket, events, credential, start, holds, lost, told }
}

t.test('the SVID of this pod is taken, and each that follows it on the stream', async t => {
  const { socket, start, holds, events } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  agent.message = response(given(first))
  await start()
  t.match(await holds(first.serial), { identity: IDENTITY, key: first.key, chain: first.chain })
  agent.message = response(given(second))
  await holds(second.serial)
  agent.message = response(given(second))
  agent.message = response(given(first))
  await holds(first.serial)
  t.equal(agent.calls.length, 1, 'on one stream')
  t.strictSame(
    events.map(({ kind }) => kind),
    ['taken', 'taken', 'taken'],
    'and what is sent again is no news',
  )
})

t.test('the call is as SPIFFE has it', async t => {
  const { socket, start } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  await start()
  await agent.called(1)
  t.match(agent.calls[0], {
    ':method': 'POST',
    ':path': '/SpiffeWorkloadAPI/FetchX509SVID',
    'content-type': 'application/grpc',
    te: 'trailers',
    'workload.spiffe.io': 'true',
  })
})

t.test('of several SVIDs the one with this pod’s identity is taken, the first of two', async t => {
  const { socket, start, holds } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  agent.message = response(given(others, OTHER), given(first), given(second))
  await start()
  await holds(first.serial)
})

t.test('SVIDs of others alone are none, and it is told whose is missing', async t => {
  const { socket, start, told, credential } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  agent.message = response(given(others, OTHER))
  await start()
  t.match(await told('PSTN_SOURCE_NO_IDENTITY'), { error: { message: new RegExp(`none of ${IDENTITY}`) } })
  t.equal(credential.get(), NOTHING)
})

t.test('an identity that a message no longer has is used no more, and neither after a restart', async t => {
  const { directory, socket, start, holds, lost, told, credential } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  agent.message = response(given(first), given(others, OTHER))
  const { stop } = await start()
  await holds(first.serial)
  t.match(readFileSync(join(directory, 'credential.json'), 'utf8'), 'PRIVATE KEY')
  agent.message = response(given(others, OTHER))
  t.match(await told('withdrawn'), { error: { code: 'PSTN_SOURCE_NO_IDENTITY' } })
  await lost()
  t.notOk(existsSync(join(directory, 'credential.json')))
  await stop()
  credential.set(NOTHING)
  await start()
  await told('PSTN_SOURCE_NO_IDENTITY')
  t.equal(credential.get(), NOTHING)
  agent.message = response(given(second))
  await holds(second.serial)
})

t.test(
  'an agent that has just started and knows others of this pod’s SVIDs alone has a minute, too',
  async t => {
    const { socket, start, holds, lost, told, credential } = await sidecar(t, { speed: 100 })
    const agent = await serveWorkloadApi(socket)
    agent.message = response(given(first))
    await start()
    await holds(first.serial)
    await agent.kill()
    await using again = await serveWorkloadApi(socket)
    again.message = response(given(others, OTHER))
    t.match(await told('PSTN_SOURCE_NO_IDENTITY'), { kind: 'failed' })
    t.match(credential.get(), { serial: first.serial }, 'still in use')
    await told('withdrawn')
    await lost()
  },
)

t.test('a denial on the stream that gave the SVID takes it back', async t => {
  const { socket, start, holds, lost, told } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  agent.message = response(given(first))
  await start()
  await holds(first.serial)
  agent.status = { code: 7, message: 'no identity issued' }
  agent.end(7, 'no identity issued')
  t.match(await told('withdrawn'), { error: { message: /no identity issued/ } })
  await lost()
})

t.test('an agent that has just started may deny for a while; then it means it', async t => {
  const { socket, start, holds, lost, told, events, credential } = await sidecar(t, { speed: 100 })
  const agent = await serveWorkloadApi(socket)
  agent.message = response(given(first))
  await start()
  await holds(first.serial)
  await agent.kill()
  await using again = await serveWorkloadApi(socket)
  again.status = { code: 7, message: 'no identity issued' }
  await told('PSTN_SOURCE_NO_IDENTITY')
  const denied = events.at(-1)
  t.match(denied, { kind: 'failed', error: { code: 'PSTN_SOURCE_NO_IDENTITY' } })
  t.match(credential.get(), { serial: first.serial }, 'still in use')
  await told('withdrawn')
  await lost()
})

t.test('an agent that is killed costs nothing, and is heard when it is back', async t => {
  const { socket, start, holds, told, credential } = await sidecar(t, { speed: 10 })
  const agent = await serveWorkloadApi(socket)
  agent.message = response(given(first))
  await start()
  await holds(first.serial)
  await agent.kill()
  rmSync(socket, { force: true })
  t.match(await told('PSTN_SOURCE_UNAVAILABLE'), { kind: 'failed', error: { message: /ENOENT/ } })
  t.match(credential.get(), { serial: first.serial })
  await using again = await serveWorkloadApi(socket)
  again.message = response(given(second))
  await holds(second.serial)
})

t.test('a restart without an agent goes on with what was held', async t => {
  const { socket, start, holds, events, credential } = await sidecar(t)
  const agent = await serveWorkloadApi(socket)
  agent.message = response(given(first))
  const { stop } = await start()
  await holds(first.serial)
  await stop()
  await agent.kill()
  credential.set(NOTHING)
  await start()
  await holds(first.serial)
  t.equal(events.at(-1)?.kind, 'restored')
})

t.test('what no client should try again is tried after minutes', async t => {
  for (const code of [3, 12]) {
    const { socket, start, told } = await sidecar(t, { speed: 20 })
    await using agent = await serveWorkloadApi(socket)
    agent.status = { code, message: 'go away' }
    await start()
    t.match(await told('PSTN_SOURCE_UNAVAILABLE'), { error: { message: `gRPC status ${code}: go away` } })
    await delay(1_000)
    t.equal(agent.calls.length, 1, 'twenty seconds later')
  }
})

t.test('an agent that says unavailable is asked again with a growing pause', async t => {
  const { socket, start } = await sidecar(t, { speed: 100 })
  await using agent = await serveWorkloadApi(socket)
  agent.status = { code: 14 }
  const started = systemClock.monotonic()
  await start()
  await agent.called(6)
  // 0.75 + 1.5 + 3 + 6 + 12 seconds, a hundred times as fast.
  t.ok(systemClock.monotonic() - started > 200)
})

t.test('something that accepts and says nothing is given up after a minute', async t => {
  const { socket, start, told } = await sidecar(t, { speed: 100 })
  const silent = createServer().listen(socket)
  t.teardown(() => silent.close())
  await start()
  t.match(await told('PSTN_SOURCE_UNAVAILABLE'), { error: { message: /no answer for 60000 ms/ } })
})

t.test('something that speaks no gRPC is told apart', async t => {
  const { socket, start, told } = await sidecar(t)
  const http1 = createServer(connection => connection.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(socket)
  t.teardown(() => http1.close())
  await start()
  t.match(await told('PSTN_SOURCE_UNAVAILABLE'), { error: { message: /the Workload API: / } })
})

t.test('a message that breaks the rules is discarded, and what was said before holds', async t => {
  const { socket, start, holds, told, credential } = await sidecar(t, { speed: 10 })
  await using agent = await serveWorkloadApi(socket)
  agent.message = response(given(first))
  await start()
  await holds(first.serial)
  agent.message = Buffer.alloc(0)
  await told('PSTN_SOURCE_INVALID')
  t.match(credential.get(), { serial: first.serial })
  agent.message = response(given(second))
  await holds(second.serial)
})

t.test('a SPIRE of another root: the refusal names the root that is missing in the bundle', async t => {
  const { socket, start, told } = await sidecar(t)
  await using agent = await serveWorkloadApi(socket)
  const theirs = await issue(IDENTITY, foreign)
  agent.message = response({ ...given(theirs), bundle: [foreign.root] })
  await start()
  t.match(await told('PSTN_SOURCE_INVALID'), { error: { message: `SHA-256 ${foreign.rootFingerprint}` } })
})

const svid = svidFields(given(first))
const wrap = (...fields: readonly Buffer[]) => field(1, Buffer.concat(fields))
const without = (index: number) => wrap(...svid.filter((_, at) => at !== index))
const withField = (index: number, content: string | Buffer) =>
  wrap(...svid.map((bytes, at) => (at === index ? field(index + 1, content) : bytes)))

for (const [name, message, why] of [
  ['no SVID', Buffer.alloc(0), /holds 0 SVIDs/],
  ['too many SVIDs', Buffer.concat(Array.from({ length: 65 }, () => wrap(...svid))), /65 SVIDs/],
  ['an SVID without an identity', without(0), /without spiffeId/],
  ['an SVID without a chain', without(1), /without chain/],
  ['an SVID without a key', without(2), /without key/],
  ['an SVID without a bundle', without(3), /without bundle/],
  ['an empty key', withField(2, ''), /without key/],
  ['a PEM key', withField(2, first.key), /not PKCS#8/],
  ['a chain that is no DER', withField(1, first.chain), /./],
  [
    'bytes behind the chain',
    withField(1, Buffer.concat([Buffer.from('3003020101', 'hex'), Buffer.from('x')])),
    /./,
  ],
  ['two keys', wrap(...svid, ...svid.slice(2, 3)), /field 3 occurs more than once/],
  ['a message that is cut', wrap(...svid).subarray(0, -1), /behind the end/],
  ['a group', varint(8 + 3), /wire type 3/],
  ['a field of number 0', varint(2), /number 0/],
  ['numbers without end', Buffer.alloc(20, 0x80), /ten bytes/],
] as const)
  t.test(`discarded: ${name}`, async t => {
    t.throws(() => svidFor(IDENTITY, message), { code: 'PSTN_SOURCE_INVALID', message: why })
  })

t.test('fields of a later version are passed over', async t => {
  const later = [
    field(9, 'x'),
    varint(10 * 8),
    varint(300),
    varint(11 * 8 + 1),
    Buffer.alloc(8),
    varint(12 * 8 + 5),
  ]
  const message = Buffer.concat([
    ...later,
    Buffer.alloc(4),
    wrap(...svid, field(5, 'internal')),
    field(2, 'crl'),
  ])
  t.match(svidFor(IDENTITY, message), { key: first.key, chain: first.chain, bundle: [ours.root] })
})

t.test('no error shows a byte of a key, wherever in a message it stands', async t => {
  const secret = first.key.split('\n').slice(1, -2)
  const context = { identity: IDENTITY, roots: [ours.root], now: Date.now() }
  for (const index of [1, 2, 3])
    for (const content of [first.key, derBytes(second.key), `${first.key}x`]) {
      const thrown = t.throws(() => {
        const offer = svidFor(IDENTITY, withField(index, content))
        if (offer) checkOffer({ ...offer, chain: offer.chain + (offer.bundle ?? []).join('') }, context)
      })
      const shown = inspect(thrown, { depth: 9, showHidden: true })
      for (const line of secret) t.notOk(shown.includes(line), `${index}`)
      t.notMatch(shown, /PRIVATE KEY/)
    }
})

const derBytes = (pem: string) => Buffer.from(pem.split('\n').slice(1, -2).join(''), 'base64')
