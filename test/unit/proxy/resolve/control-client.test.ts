import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer, type Server } from 'node:net'
import t, { type Test } from 'tap'
import type { Credential } from '../../../../proxy/credentials/credential.ts'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../../../proxy/credentials/trust.ts'
import { createControlClient } from '../../../../proxy/resolve/control-client.ts'
import type { ControlEvent } from '../../../../proxy/resolve/control-session.ts'
import { createDirectory } from '../../../../proxy/resolve/directory.ts'
import { systemClock } from '../../../../shared/clock.ts'
import type { State, StatusExtensions } from '../../../../shared/control/messages.ts'
import { type Live, live, until } from '../../../../shared/live.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { type Issued, testAuthority } from '../../../support/certificates.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { scriptedApi } from '../../../support/scripted-api.ts'
import { type ScriptedInjector, scriptedInjector } from '../../../support/scripted-injector.ts'

const TRUST_DOMAIN = 'cluster.local'
const INJECTOR = parseSpiffeId('spiffe://cluster.local/ns/postern-system/sa/postern-injector').id
const SIDECAR = 'spiffe://cluster.local/ns/shop/sa/cart'

const ours = await testAuthority(TRUST_DOMAIN)
const forger = await testAuthority(TRUST_DOMAIN)
const next = await testAuthority(TRUST_DOMAIN, 'CN=next root')
const injectorLeaf = await ours.issue({ identity: INJECTOR })
const own = await ours.issue({ identity: SIDECAR })

/** As soon as the value passes. */
const when = <T>(source: Live<T>, test: (value: T) => boolean, signal: AbortSignal): Promise<T> =>
  until(source, (value): value is T & NonNullable<T> => test(value), signal)

const stateOf = (version: number, more: Partial<State> = {}): State => ({
  kind: 'state',
  version,
  policy: { mode: { inbound: 'strict', ports: {} }, policies: [], defaultAction: 'allow' },
  trust: [ours.bundle],
  prefixes: ['10.244.0.0/16'],
  ...more,
})

type Setup = {
  readonly address: string
  readonly dir?: string
  readonly own?: Issued
  readonly lostAfterMs?: number
  readonly renewal?: StatusExtensions
  readonly alsoTrusted?: () => readonly string[]
}

async function sidecar(
  t: Test,
  {
    address,
    dir = scratchDirectory(t),
    own: leaf = own,
    lostAfterMs = 5_000,
    renewal = {},
    alsoTrusted,
  }: Setup,
) {
  const api = await scriptedApi({ username: '', podUid: '' })
  api.trust = { 'trust-domain': TRUST_DOMAIN, 'roots.pem': ours.root }
  const volume = openStateVolume(dir, error => t.fail(error.message))
  const trust = await openTrustStore(api.kube, TRUST_DOMAIN, volume)
  const stopping = new AbortController()
  await trust.refresh(stopping.signal)
  const events = live<readonly ControlEvent[]>([])
  const credential = live<Credential | undefined>(leaf.credential())
  const directory = createDirectory(systemClock)
  const client = await createControlClient({
    address,
    injectorIdentity: INJECTOR,
    hello: { podUid: 'pod-1', version: '0.1.0', features: ['l4'] },
    credential,
    renewal: () => renewal,
    trust,
    alsoTrusted,
    volume,
    directory,
    clock: systemClock,
    random: Math.random,
    observe: event => events.set([...events.get(), event]),
    timing: { heartbeatMs: 40, lostAfterMs, retryBaseMs: 20 },
  })
  const running = client.run(stopping.signal)
  t.teardown(async () => {
    stopping.abort()
    await running
    await Promise.all([volume.read('state.json'), volume.read('trust.json')])
    await api[Symbol.asyncDispose]()
  })
  /** The first event of this kind, now or later. */
  const seen = async <K extends ControlEvent['kind']>(kind: K) => {
    const found = (list: readonly ControlEvent[]) =>
      list.find((event): event is Extract<ControlEvent, { kind: K }> => event.kind === kind)
    await until(events, (list): list is readonly ControlEvent[] => found(list) !== undefined, stopping.signal)
    return found(events.get())
  }
  return { api, client, credential, directory, events, seen, signal: stopping.signal, trust, volume }
}

async function injector(
  t: Test,
  ...args: Partial<Parameters<typeof scriptedInjector>>
): Promise<ScriptedInjector> {
  const [leaf = injectorLeaf, bundle = ours.bundle, answer, port] = args
  const server = await scriptedInjector(leaf, bundle, answer, port)
  t.teardown(() => server[Symbol.asyncDispose]())
  return server
}

t.test('a sidecar says who it is, applies the state and confirms it with the roots in force', async t => {
  const server = await injector(t)
  const { client, signal } = await sidecar(t, server)
  const visit = await server.visit(0)
  t.match(await visit.next('hello'), { podUid: 'pod-1', version: '0.1.0', features: ['l4'] })
  t.same((await visit.next('subscribe')).addresses, [])
  t.match(await visit.next('status'), { stateVersion: 0, certificateSerial: own.serial })
  visit.say(stateOf(1))
  t.same(await when(client.state, state => state !== undefined, signal), stateOf(1))
  t.match(await visit.next('status'), { stateVersion: 1, roots: [ours.rootFingerprint] })
  t.equal(client.connected.get(), true)
})

t.test('a root counts as known once the application has it too, where it has its roots from us', async t => {
  await using injector = await scriptedInjector(injectorLeaf, ours.bundle)
  let application = [ours.root]
  const { address } = injector
  await sidecar(t, { address, alsoTrusted: () => application })
  const visit = await injector.visit(0)
  const both = { trustDomain: TRUST_DOMAIN, roots: [ours.root, next.root] }
  visit.say(stateOf(1, { trust: [both] }))
  const said = async (roots: readonly string[]) => {
    for (;;) {
      const status = await visit.next('status')
      if (status.stateVersion === 1 && status.roots.length === roots.length)
        return t.same(status.roots, roots)
    }
  }
  await said([ours.rootFingerprint])
  application = [ours.root, next.root, forger.root]
  await said([ours.rootFingerprint, next.rootFingerprint])
})

const RENEWAL: StatusExtensions = {
  certificateReceivedAt: '2030-01-01T00:00:00.000Z',
  renewal: { failures: 3, code: 'PSTN_CSR_TIMEOUT', since: '2030-01-01T12:00:00.000Z', retrySeconds: 8 },
}

t.test('how renewal goes is told to an injector that says it reads that', async t => {
  const answer = (features: string) => (stream: ServerHttp2Stream) =>
    stream.respond({ ':status': 200, 'postern-features': features })
  const told = async (features: string) => {
    const server = await injector(t, injectorLeaf, ours.bundle, answer(features))
    await sidecar(t, { address: server.address, renewal: RENEWAL })
    const visit = await server.visit(0)
    t.notMatch(await visit.next('status'), { certificateReceivedAt: /./ }, 'nothing before it has answered')
    visit.say(stateOf(1))
    const { certificateReceivedAt, renewal } = await visit.next('status')
    return { certificateReceivedAt, renewal }
  }
  t.same(await told('certificateReceivedAt, renewal'), RENEWAL)
  t.same(await told('something-newer,renewal'), { ...RENEWAL, certificateReceivedAt: undefined })
})

t.test('an injector of v0.1.0 is sent what it knows and no more', async t => {
  const server = await injector(t)
  await sidecar(t, { address: server.address, renewal: RENEWAL })
  const visit = await server.visit(0)
  visit.say(stateOf(1))
  await visit.next('status')
  const known = ['kind', 'stateVersion', 'roots', 'certificateSerial', 'certificateNotAfter']
  t.same(Object.keys(await visit.next('status')), known)
})

t.test('a new address is subscribed to on first use and its answer comes back', async t => {
  const server = await injector(t)
  const { directory, signal } = await sidecar(t, server)
  const visit = await server.visit(0)
  await visit.next('subscribe')
  const found = directory.lookup('10.244.0.9', signal)
  t.same((await visit.next('subscribe')).addresses, ['10.244.0.9'])
  visit.say({ kind: 'addresses', entries: [{ kind: 'plain', address: '10.244.0.9' }] })
  t.same(await found, { kind: 'plain', address: '10.244.0.9' })
})

t.test(
  'after a lost stream it comes back with its subscriptions and takes versions from the start',
  async t => {
    const server = await injector(t)
    const { client, directory, signal, seen } = await sidecar(t, server)
    const first = await server.visit(0)
    directory.lookup('10.244.0.9', signal).catch(() => undefined)
    first.say(stateOf(7))
    await when(client.state, state => state?.version === 7, signal)
    first.stream.close()
    t.match(await seen('lost'), { error: { code: 'PSTN_CONTROL_LOST' } })
    const second = await server.visit(1)
    t.match(await second.next('hello'), { podUid: 'pod-1' })
    t.same((await second.next('subscribe')).addresses, ['10.244.0.9'])
    t.equal(client.state.get()?.version, 7, 'the last good state stays meanwhile')
    second.say(stateOf(1))
    await when(client.state, state => state?.version === 1, signal)
  },
)

t.test('a silent injector is given up, one that only beats is not', async t => {
  const server = await injector(t)
  const { events } = await sidecar(t, { address: server.address, lostAfterMs: 150 })
  const first = await server.visit(0)
  for (let beat = 0; beat < 8; beat++) {
    first.say({ kind: 'addresses', entries: [] })
    await systemClock.sleep(40, new AbortController().signal)
  }
  t.equal(server.visits.length, 1)
  t.notOk(events.get().some(({ kind }) => kind === 'lost'))
  await server.visit(1)
  t.match(
    events.get().find(({ kind }) => kind === 'lost'),
    {
      error: { code: 'PSTN_CONTROL_LOST', message: /silent/ },
    },
  )
})

t.test('what breaks the schema ends the stream and leaves the last good state', async t => {
  const unknown = (change: object) => JSON.stringify({ ...stateOf(2), ...change })
  const cases: readonly [name: string, line: string, message: RegExp][] = [
    ['no JSON', '{"kind":', /JSON/],
    ['an unknown kind', '{"kind":"reboot"}', /message\.kind/],
    ['an unknown key', unknown({ surprise: true }), /message\.surprise: unknown key/],
    ['a prefix that is none', unknown({ prefixes: ['10.0.0.0/64'] }), /prefixes\[0\]/],
    ['a version that does not grow', JSON.stringify(stateOf(1)), /1 after 1/],
    ['an endless line', 'x'.repeat(17 * 1024 * 1024), /longer than/],
  ]
  for (const [name, line, message] of cases) {
    await t.test(name, async t => {
      const server = await injector(t)
      const { client, seen } = await sidecar(t, server)
      const visit = await server.visit(0)
      visit.say(stateOf(1))
      visit.stream.write(`${line}\n`)
      t.match(await seen('lost'), { error: { code: 'PSTN_CONTROL_MALFORMED', message } })
      t.same(client.state.get(), stateOf(1))
    })
  }
})

t.test('an injector that is not exactly the injector is refused, each with its own code', async t => {
  const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) }
  const cases = [
    ['another workload', 'PSTN_PEER_UNEXPECTED', await ours.issue({ identity: SIDECAR })],
    ['a forged authority', 'PSTN_PEER_UNTRUSTED', await forger.issue({ identity: INJECTOR })],
    ['an expired certificate', 'PSTN_PEER_EXPIRED', await ours.issue({ identity: INJECTOR, ...past })],
  ] as const
  for (const [name, code, leaf] of cases) {
    await t.test(name, async t => {
      const server = await injector(t, leaf)
      const { client, seen } = await sidecar(t, server)
      t.match(await seen('lost'), { error: { code } })
      t.equal(server.visits.length, 0, 'not a byte was sent')
      t.equal(client.connected.get(), false)
    })
  }
})

t.test('an injector under a new root is met after the published bundle was read again', async t => {
  const server = await injector(t, await next.issue({ identity: INJECTOR }))
  const { api, client, trust, signal } = await sidecar(t, server)
  api.trust = { 'trust-domain': TRUST_DOMAIN, 'roots.pem': ours.root + next.root }
  await when(client.connected, connected => connected, signal)
  t.same(trust.bundle.get()?.roots, [ours.root, next.root])
})

t.test('a pushed root is taken, a removed one ends the stream at once', async t => {
  const server = await injector(t)
  const { trust, signal, seen } = await sidecar(t, server)
  const first = await server.visit(0)
  const both = { trustDomain: TRUST_DOMAIN, roots: [ours.root, next.root] }
  first.say(stateOf(1, { trust: [both] }))
  await when(trust.bundle, bundle => bundle?.roots.length === 2, signal)
  t.equal(server.visits.length, 1, 'one root more is no reason to hang up')
  await seen('applied')
  first.say(stateOf(2, { trust: [next.bundle] }))
  await once(first.stream, 'close', { signal: AbortSignal.timeout(1_000) })
  t.same(trust.bundle.get(), next.bundle)
})

t.test('what a stream tells of stands against what is published for as long as it is held', async t => {
  const server = await injector(t)
  const { trust, signal, seen } = await sidecar(t, server)
  const first = await server.visit(0)
  const both = { trustDomain: TRUST_DOMAIN, roots: [ours.root, next.root] }
  first.say(stateOf(1, { trust: [both] }))
  await seen('applied')
  await trust.refresh(signal)
  t.same(trust.bundle.get(), both, 'the other was not published yet, or not any more')
  first.stream.close()
  await seen('lost')
  await trust.refresh(signal)
  t.same(trust.bundle.get(), ours.bundle)
})

t.test('a root that did not vouch for the injector, or is retired, ends no stream when it goes', async t => {
  const server = await injector(t)
  const { client, trust, signal, seen } = await sidecar(t, server)
  const first = await server.visit(0)
  first.say(stateOf(1, { trust: [{ trustDomain: TRUST_DOMAIN, roots: [ours.root, next.root] }] }))
  await seen('applied')
  first.say(stateOf(2, { trust: [ours.bundle] }))
  await when(trust.bundle, bundle => bundle?.roots.length === 1, signal)
  const retired = [ours.rootFingerprint]
  first.say(stateOf(3, { trust: [next.bundle], retired }))
  await when(trust.bundle, bundle => bundle?.roots[0] === next.root, signal)
  first.say(stateOf(4, { trust: [next.bundle], retired }))
  await when(client.state, state => state?.version === 4, signal)
  t.equal(server.visits.length, 1, 'all sidecars of the mesh would come back at once')
  t.notOk(first.stream.closed)
  first.say(stateOf(5, { trust: [next.bundle], revokedRoots: retired }))
  await once(first.stream, 'close', { signal: AbortSignal.timeout(1_000) })
  trust.adopt([{ trustDomain: TRUST_DOMAIN, roots: [ours.root, next.root] }])
  t.same(trust.bundle.get(), next.bundle, 'nor is it taken back')
})

t.test('a pushed bundle that is wrong is not taken, the policy beside it is', async t => {
  const server = await injector(t)
  const { client, trust, seen, signal } = await sidecar(t, server)
  const visit = await server.visit(0)
  visit.say(stateOf(1, { trust: [{ trustDomain: TRUST_DOMAIN, roots: ['garbage'] }] }))
  t.match(await seen('trust-refused'), { error: { code: 'PSTN_TRUST_INVALID' } })
  await when(client.state, state => state?.version === 1, signal)
  t.same(trust.bundle.get(), ours.bundle)
})

t.test('a refusal of the injector is told with its code and reason', async t => {
  const server = await injector(t, undefined, undefined, stream => {
    stream.respond({ ':status': 403, 'postern-code': 'PSTN_CONTROL_REJECTED' })
    stream.end('the pod belongs to another service account\n')
  })
  const { seen } = await sidecar(t, server)
  t.match(await seen('lost'), {
    error: { code: 'PSTN_CONTROL_REJECTED', message: /403 .*another service account/ },
  })
})

t.test('a session that the injector ends with a code says that code', async t => {
  const server = await injector(t)
  const { seen } = await sidecar(t, server)
  const { stream } = await server.visit(0)
  stream.session?.goaway(0, 0, Buffer.from('PSTN_PEER_UNTRUSTED'))
  stream.session?.destroy()
  t.match(await seen('lost'), { error: { code: 'PSTN_CONTROL_REJECTED', message: /PSTN_PEER_UNTRUSTED/ } })
})

t.test('somebody who does not speak TLS is a failed handshake', async t => {
  const mute = createServer(socket => {
    socket.on('error', () => undefined)
    socket.resume().end('not TLS\n')
  })
  const address = await listening(mute)
  t.teardown(() => mute.close())
  const { seen } = await sidecar(t, { address })
  t.match(await seen('lost'), { error: { code: 'PSTN_TLS_FAILED' } })
})

t.test('nobody at the address is a lost stream', async t => {
  const gone = createServer()
  const address = await listening(gone)
  gone.close()
  const { seen } = await sidecar(t, { address })
  t.match(await seen('lost'), { error: { code: 'PSTN_CONTROL_LOST', message: /ECONNREFUSED/ } })
})

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test('a restart during an outage of the injector has the last state at once', async t => {
  const dir = scratchDirectory(t)
  const server = await injector(t)
  const before = await sidecar(t, { address: server.address, dir })
  ;(await server.visit(0)).say(stateOf(3))
  await before.seen('applied')
  await before.volume.read('state.json')
  await server[Symbol.asyncDispose]()
  await before.seen('lost')
  const after = await sidecar(t, { address: server.address, dir })
  t.same(after.client.state.get(), stateOf(3))
})

t.test('an expired sidecar waits for its next certificate, then connects', async t => {
  const server = await injector(t)
  const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) }
  const expired = await ours.issue({ identity: SIDECAR, ...past })
  const { client, credential, events, signal } = await sidecar(t, { address: server.address, own: expired })
  await systemClock.sleep(60, signal)
  t.same(events.get(), [])
  credential.set(own.credential(2))
  await when(client.connected, connected => connected, signal)
})

t.test('the stream is renewed before the certificate that opened it expires', async t => {
  const server = await injector(t)
  const soon = await ours.issue({ identity: SIDECAR, notAfter: new Date(Date.now() + 2_000) })
  const { credential, events, seen } = await sidecar(t, { address: server.address, own: soon })
  await seen('connected')
  credential.set(own.credential(2))
  const beating = setInterval(() => server.visits[0]?.say({ kind: 'addresses', entries: [] }), 40)
  const second = await server.visit(1)
  clearInterval(beating)
  t.match(await second.next('status'), { certificateSerial: own.serial })
  t.notOk(
    events.get().some(({ kind }) => kind === 'lost'),
    'that is no failure',
  )
})

const REVOKED = { serials: ['4f0a'], identities: [], pods: ['uid-1'] }

t.test('who is revoked stays so where an injector does not speak of it, over a restart too', async t => {
  const server = await injector(t)
  const dir = scratchDirectory(t)
  const { client, signal, volume } = await sidecar(t, { ...server, dir })
  const visit = await server.visit(0)
  visit.say(stateOf(1, { revoked: REVOKED }))
  await when(client.state, state => state?.version === 1, signal)
  visit.say(stateOf(2))
  t.same((await when(client.state, state => state?.version === 2, signal))?.revoked, REVOKED)
  await volume.read('state.json')
  const gone = await sidecar(t, { address: '127.0.0.1:1', dir })
  t.same(gone.client.state.get()?.revoked, REVOKED, 'kept')
  visit.say(stateOf(3, { revoked: { serials: [], identities: [], pods: [] } }))
  const lifted = await when(client.state, state => state?.version === 3, signal)
  t.same(lifted?.revoked?.serials, [], 'only an injector that says so lifts it')
})

t.test(
  'partners stay known where an injector does not speak of them: they would be dialled in plaintext',
  async t => {
    const server = await injector(t)
    const { client, signal } = await sidecar(t, server)
    const visit = await server.visit(0)
    const partners = [{ trustDomain: 'west.example', roots: ['root'], destinations: [] }]
    visit.say(stateOf(1, { partners }))
    await when(client.state, state => state?.version === 1, signal)
    visit.say(stateOf(2))
    t.same((await when(client.state, state => state?.version === 2, signal))?.partners, partners)
    visit.say(stateOf(3, { partners: [] }))
    t.same((await when(client.state, state => state?.version === 3, signal))?.partners, [])
  },
)

t.test(
  'ports with TLS stay so, with their clients, where an injector does not speak of them: they would take plaintext',
  async t => {
    const server = await injector(t)
    const { client, signal } = await sidecar(t, server)
    const visit = await server.visit(0)
    const applied = (version: number) => when(client.state, state => state?.version === version, signal)
    const policy = (mode: State['policy']['mode']) => ({ ...stateOf(0).policy, mode })
    const ports = { 8443: 'strict' } as const
    const tls = policy({ inbound: 'permissive', ports, tls: { 8443: 'mutual' } })
    const partnerClients = [{ name: 'batch', roots: ['root'], ports: [8443], principals: [] }]
    visit.say(stateOf(1, { policy: tls, partners: [], partnerClients }))
    await applied(1)
    const plain = policy({ inbound: 'permissive', ports: { 8443: 'permissive', 9000: 'strict' } })
    visit.say(stateOf(2, { policy: plain }))
    const kept = await applied(2)
    t.strictSame(kept?.policy.mode, {
      inbound: 'permissive',
      ports: { 8443: 'strict', 9000: 'strict' },
      tls: { 8443: 'mutual' },
    })
    t.same(kept?.partnerClients, partnerClients)
    visit.say(stateOf(3, { policy: plain, partners: [] }))
    const lifted = await applied(3)
    t.strictSame(lifted?.policy.mode, plain.mode, 'who speaks of them lifts them')
    t.equal(lifted?.partnerClients, undefined)
  },
)

const OUTSIDE: NonNullable<State['outside']> = [
  {
    name: 'shop/partner',
    host: 'api.partner.example',
    addresses: ['203.0.113.0/28'],
    ports: [443],
    tls: { mode: 'MUTUAL', roots: ['root'] },
    features: [],
  },
]

t.test(
  'hosts outside stay declared where an injector does not speak of them, over a restart too',
  async t => {
    const server = await injector(t)
    const dir = scratchDirectory(t)
    const { client, signal, volume } = await sidecar(t, { ...server, dir })
    const visit = await server.visit(0)
    visit.say(stateOf(1, { outside: OUTSIDE }))
    await when(client.state, state => state?.version === 1, signal)
    visit.say(stateOf(2))
    t.same((await when(client.state, state => state?.version === 2, signal))?.outside, OUTSIDE)
    await volume.read('state.json')
    const gone = await sidecar(t, { address: '127.0.0.1:1', dir })
    t.same(gone.client.state.get()?.outside, OUTSIDE, 'kept')
    visit.say(stateOf(3, { outside: [] }))
    t.same((await when(client.state, state => state?.version === 3, signal))?.outside, [])
  },
)

t.test(
  'an injector’s certificate that is revoked is refused, live and anew; its identity never is',
  async t => {
    const server = await injector(t)
    const { seen, client, signal } = await sidecar(t, server)
    const first = await server.visit(0)
    first.say(stateOf(1, { revoked: { serials: [], identities: [INJECTOR], pods: [] } }))
    await when(client.state, state => state?.version === 1, signal)
    t.equal(client.connected.get(), true)
    first.say(stateOf(2, { revoked: { serials: [injectorLeaf.serial], identities: [], pods: [] } }))
    t.match(await seen('lost'), { error: { code: 'PSTN_PEER_REVOKED' } })
    await when(client.connected, connected => !connected, signal)
    t.equal(server.visits.length, 1)
  },
)
