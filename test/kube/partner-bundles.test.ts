// The ConfigMap of partners' bundles on a real API server, with the injector's own rights: how often a partner can make it be
// written, what is done while it cannot be, and what becomes of it when somebody deletes, empties or spoils it, or a partner
// comes and goes. Two replicas watch; one of them leads.
import type { Socket } from 'node:net'
import type { V1ConfigMap, V1Role } from '@kubernetes/client-node'
import { pino } from 'pino'
import t from 'tap'
import { refreshPartners } from '../../injector/federation/refresh.ts'
import { reportFederation } from '../../injector/federation/report.ts'
import { type Federation, watchFederation } from '../../injector/federation/watch.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { type FetchedBundle, parseFetched } from '../../shared/federation/fetched.ts'
import { connectKube, isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { live, until as untilLive } from '../../shared/live.ts'
import { createRegistry } from '../../shared/metrics.ts'
import { FEDERATION_LABEL, INJECTOR_NAME, PARTNERS_CONFIGMAP, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { writeSpiffeBundle } from '../../shared/spiffe-bundle.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { testAuthority } from '../support/certificates.ts'
import { requireApiServer } from '../support/requirements.ts'
import { steppingClock } from '../support/stepping-clock.ts'
import { jsonAnswer, startWebServer, type WebServer } from '../support/web-server.ts'
import { install, systemPath, until } from './support/installation.ts'

const MERGE = 'application/merge-patch+json'
const CONFIGMAPS = systemPath('configmaps')
const STORED = `${CONFIGMAPS}/${PARTNERS_CONFIGMAP}`
const GONE = 'https://127.0.0.1:1/'
const OWN = 'cluster.local'

/** As a document of one partner, in JSON, which is YAML. */
const named = (trustDomain: string, url: string, ca: string) => {
  const spec = { trustDomain, bundle: { endpoint: { url, caBundle: ca } } }
  const document = {
    apiVersion: 'federation.postern.dev/v1',
    kind: 'TrustDomain',
    metadata: { name: trustDomain },
    spec,
  }
  return { 'partner.yaml': JSON.stringify(document) }
}

async function start() {
  await using stack = new AsyncDisposableStack()
  const server = stack.use(await startApiServer())
  await install(server)
  const { kube } = server
  // Nobody answers it, and what slips past it is a case of its own.
  await kube.delete(`/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/${INJECTOR_NAME}`)
  const lifetime = stack.move()
  const entries = async (): Promise<Readonly<Record<string, FetchedBundle>>> => {
    const { data = {} } = await kube.get<V1ConfigMap>(STORED).catch(thrown => {
      if (isKubeError(thrown, 404)) return { data: {} as Record<string, string> }
      throw thrown
    })
    return Object.fromEntries(Object.entries(data).map(([name, json]) => [name, parseFetched(name, json)]))
  }
  return {
    server,
    kube,
    entries,
    replica: () => startReplica(lifetime, server),
    name: (configMap: string, data: Record<string, string>) => write(kube, configMap, data),
    unname: (configMap: string) => kube.delete(`${CONFIGMAPS}/${configMap}`),
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

async function write(kube: Kube, name: string, data: Record<string, string>): Promise<void> {
  const metadata = { name, labels: { [FEDERATION_LABEL]: 'true' } }
  const create = () => kube.create(CONFIGMAPS, { metadata, data })
  await kube
    .patch(`${CONFIGMAPS}/${name}`, MERGE, { data })
    .catch(thrown => (isKubeError(thrown, 404) ? create() : Promise.reject(thrown)))
}

type Replica = {
  readonly federation: Federation
  /** How often its sidecars were told. */
  readonly pushes: () => number
  readonly rootsOf: (trustDomain: string) => readonly string[] | undefined
  readonly log: readonly string[]
  readonly metric: (series: string) => number
  lead(clock?: Clock): Leader
}
type Leader = { kill(): Promise<void> }

async function startReplica(stack: AsyncDisposableStack, server: ApiServer): Promise<Replica> {
  const kube = connectKube(server.endpointFor(await server.tokenFor(SYSTEM_NAMESPACE, INJECTOR_NAME)))
  const end = new AbortController()
  stack.defer(() => {
    end.abort()
    kube[Symbol.dispose]()
  })
  const lines: string[] = []
  const log = pino({ level: 'info' }, { write: line => void lines.push(line) })
  const registry = createRegistry()
  const context = { kube, log, registry, clock: systemClock, signal: end.signal }
  const federation = watchFederation({ ...context, trustDomain: OWN })
  let pushes = 0
  federation.partners.subscribe(() => {
    pushes += 1
  })
  const told = reportFederation({ ...context, leads: () => true }, federation)
  await untilLive(federation.known, (known): known is true => known, end.signal)
  return {
    federation,
    pushes: () => pushes,
    rootsOf: trustDomain => federation.partners.get().find(one => one.trustDomain === trustDomain)?.roots,
    log: lines,
    metric: series => Number(new RegExp(`^${series} (.*)$`, 'm').exec(registry.render())?.[1] ?? 0),
    lead: (clock = systemClock) => {
      const over = new AbortController()
      const trust = live({ trustDomain: OWN, roots: [] })
      const options = { kube, clock, random: Math.random, federation, trust, told }
      const ended = refreshPartners(options, AbortSignal.any([over.signal, end.signal]))
      stack.defer(() => {
        over.abort()
        return ended
      })
      return {
        kill: () => {
          over.abort()
          return ended
        },
      }
    },
  }
}

const bundleOf = async (trustDomain: string, sequence?: bigint) =>
  writeSpiffeBundle({
    trustDomain,
    roots: [(await testAuthority(trustDomain)).root],
    ...(sequence && { sequence }),
  })
const WRITTEN = 'postern_partner_writes_total\\{outcome="written"\\}'
const FAILED = 'postern_partner_writes_total\\{outcome="failed"\\}'

const skip = requireApiServer()
t.test('partners’ bundles on a real API server', { skip }, async t => {
  await using mesh = await start()
  const { kube, entries, name, unname } = mesh

  await t.test(
    'a partner that is another one at each answer is written and pushed a few times an hour',
    async t => {
      const [a, b] = [await bundleOf('restless.example'), await bundleOf('restless.example')]
      await using restless: WebServer = await startWebServer((request, response) => {
        const text = [a, b][restless.asked() % 2] ?? ''
        jsonAnswer(text.replace('"keys"', '"spiffe_refresh_hint": 0, "keys"'))(request, response)
      })
      const good = (await bundleOf('broken.example')).replace('"keys"', '"spiffe_refresh_hint": 1, "keys"')
      await using broken: WebServer = await startWebServer((request, response) => {
        jsonAnswer(broken.asked() % 2 === 1 ? good : '{')(request, response)
      })
      const replica = await mesh.replica()
      const clock = steppingClock()
      const leader = replica.lead(clock)
      await name('restless', named('restless.example', restless.url, restless.authority.cert))
      await name('broken', named('broken.example', broken.url, broken.authority.cert))
      const began = clock.now()
      // Both loops sleep on one clock: together they pass twice the time.
      await until(async () => Math.min(restless.asked(), broken.asked()) >= 180)
      await leader.kill()
      const hours = (clock.now() - began) / 3_600_000
      const [asked, writes] = [restless.asked() + broken.asked(), replica.metric(WRITTEN)]
      t.comment(`${asked} answers, ${writes} writes and ${replica.pushes()} pushes in ${hours.toFixed(1)} h`)
      t.ok(replica.pushes() <= 10 + 6 * hours, 'pushes to sidecars')
      t.ok(
        replica.metric('postern_partner_changes_total\\{trust_domain="restless.example"\\}') <= 7 + 6 * hours,
      )
      t.ok(writes <= 30 + 24 * hours, 'writes')
      t.ok(asked > 2 * writes, 'control: it was asked far more often')
      const held =
        'postern_partner_fetch_failures_total\\{trust_domain="restless.example",code="PSTN_PARTNER_UNSETTLED"\\}'
      t.ok(replica.metric(held) > 50, 'and told')
      for (const configMap of ['restless', 'broken']) await unname(configMap)
      const next = replica.lead()
      await until(async () => Object.keys(await entries()).length === 0)
      await next.kill()
    },
  )

  await t.test(
    'whoever may not write it asks ever more seldom, says so once, and heals by itself',
    async t => {
      const path = `/apis/rbac.authorization.k8s.io/v1/namespaces/${SYSTEM_NAMESPACE}/roles/${INJECTOR_NAME}`
      const role = await kube.get<V1Role>(path)
      const rules = (role.rules ?? []).map(rule => ({
        ...rule,
        ...(rule.resourceNames && {
          resourceNames: rule.resourceNames.filter(one => one !== PARTNERS_CONFIGMAP),
        }),
      }))
      await kube.patch(path, MERGE, { rules })
      await using web = await startWebServer(jsonAnswer(await bundleOf('late.example')))
      const replica = await mesh.replica()
      const clock = steppingClock()
      const leader = replica.lead(clock)
      await name('late', named('late.example', web.url, web.authority.cert))
      await until(async () => clock.sleeps.length >= 10)
      t.same(replica.rootsOf('late.example'), [], 'what cannot be kept is not trusted')
      const rests = clock.sleeps.slice(0, 10)
      t.ok(
        rests.every(
          (ms, index) =>
            ms <= Math.min(5_000 * 2 ** index, 300_000) && ms >= Math.min(2_500 * 2 ** index, 150_000),
        ),
        rests.join(),
      )
      await kube.patch(path, MERGE, { rules: role.rules })
      await until(async () => replica.rootsOf('late.example')?.length === 1)
      const said = (text: RegExp) => replica.log.filter(line => text.test(line)).length
      t.equal(said(/"msg":"partner bundles not kept"/), 1)
      t.match(
        replica.log.find(line => /not kept/.test(line)),
        /forbidden/,
      )
      await until(async () => said(/"msg":"partner bundles kept again"/) === 1)
      t.ok(replica.metric(FAILED) >= 10)
      await leader.kill()
      await unname('late')
    },
  )

  const web = await startWebServer(jsonAnswer('{'))
  await using disposed = web
  const ca = disposed.authority.cert
  const bundles = new Map(
    await Promise.all(
      ['west.example', 'south.example'].map(async one => [one, await bundleOf(one, 7n)] as const),
    ),
  )
  web.answer = (request, response) => {
    const text = bundles.get(new URL(request.url ?? '/', 'https://x').searchParams.get('of') ?? '')
    jsonAnswer(text ?? '{')(request, response)
  }
  const urlOf = (trustDomain: string) => `${web.url}?of=${trustDomain}`
  const [first, second] = [await mesh.replica(), await mesh.replica()]
  let leader = first.lead()
  const trusts = (trustDomain: string, count: number) =>
    until(async () => [first, second].every(({ rootsOf }) => rootsOf(trustDomain)?.length === count))
  await name('west', named('west.example', urlOf('west.example'), ca))
  await name('south', named('south.example', urlOf('south.example'), ca))
  for (const domain of bundles.keys()) await trusts(domain, 1)
  // From here on nobody answers: what is known is all there is.
  const answering = web.answer
  web.answer = (_, response) => response.writeHead(503).end()

  await t.test(
    'deleted, emptied, spoilt: it comes back at once, and no sidecar is told anything',
    async t => {
      const before = await entries()
      const pushed = [first.pushes(), second.pushes()]
      const cases: Record<string, () => Promise<unknown>> = {
        deleted: () => kube.delete(STORED),
        emptied: () => kube.patch(STORED, MERGE, { data: null }),
        'one of two taken out': () => kube.patch(STORED, MERGE, { data: { 'south.example': null } }),
        'no JSON': () => kube.patch(STORED, MERGE, { data: { 'south.example': '{' } }),
        'a root that is none': () =>
          kube.patch(STORED, MERGE, {
            data: { 'west.example': JSON.stringify({ url: GONE, roots: ['x'] }) },
          }),
      }
      for (const [what, spoil] of Object.entries(cases)) {
        const { metadata } = await kube.get<V1ConfigMap>(STORED)
        await spoil()
        await until(async () => {
          const now = await kube.get<V1ConfigMap>(STORED).catch(() => undefined)
          return (
            now !== undefined &&
            now.metadata?.resourceVersion !== metadata?.resourceVersion &&
            'west.example' in (now.data ?? {}) &&
            isSame(await entries().catch(() => ({})), before)
          )
        })
        t.pass(what)
      }
      t.same([first.pushes(), second.pushes()], pushed)
      const fresh = await mesh.replica()
      t.same(fresh.rootsOf('west.example'), before['west.example']?.roots, 'one that starts now has them')
    },
  )

  await t.test('deleted while nobody leads: the next leader puts back what it knows', async t => {
    await leader.kill()
    await kube.delete(STORED)
    await until(async () => second.federation.lost.get().length === 2)
    t.same(Object.keys(await entries()), [], 'control')
    leader = second.lead()
    await until(async () => Object.keys(await entries()).length === 2)
    await trusts('west.example', 1)
  })

  await t.test('a partner that is removed is not trusted again for what was known of it', async t => {
    // Of whom it is nobody can say; it must not keep what was removed.
    await name('unreadable', { 'partner.yaml': '{' })
    await unname('west')
    await until(async () => !('west.example' in (await entries())))
    await until(async () =>
      [first, second].every(({ federation }) => !federation.fetched.get().has('west.example')),
    )
    await name('west', named('west.example', GONE, ca))
    await until(async () => (await entries())['west.example']?.failure !== undefined)
    t.same((await entries())['west.example']?.roots, [])
    await trusts('west.example', 0)
    t.same(second.rootsOf('south.example')?.length, 1, 'control: nobody else is concerned')
    await unname('unreadable')
  })

  await t.test('another trust domain under the URL that was: nothing goes over to it', async t => {
    web.answer = answering
    await name('west', named('west.example', urlOf('west.example'), ca))
    await trusts('west.example', 1)
    web.answer = (_, response) => response.writeHead(503).end()
    await name('west', named('east.example', urlOf('west.example'), ca))
    await until(async () => (await entries())['east.example']?.failure !== undefined)
    await until(async () => !('west.example' in (await entries())))
    t.same([second.rootsOf('east.example'), second.rootsOf('west.example')], [[], undefined])
  })

  await t.test(
    'removed while nobody leads: trusted in nobody at once, and the next leader drops it',
    async t => {
      await leader.kill()
      await unname('south')
      await until(async () => [first, second].every(({ rootsOf }) => rootsOf('south.example') === undefined))
      t.ok('south.example' in (await entries()), 'control: it is still there')
      leader = first.lead()
      await until(async () => !('south.example' in (await entries())))
    },
  )

  await t.test('a leader ends at once, whatever an endpoint does with its question', async t => {
    for (const [index, how] of [
      (socket: Socket) =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
      () => undefined,
    ].entries()) {
      const asked = web.asked()
      web.answer = request => how(request.socket)
      await name('east', named('east.example', `${web.url}?${index}`, ca))
      await until(async () => web.asked() > asked)
      const began = performance.now()
      await leader.kill()
      t.ok(performance.now() - began < 2_000)
      leader = first.lead()
    }
  })
})

const isSame = (
  some: Readonly<Record<string, FetchedBundle>>,
  others: Readonly<Record<string, FetchedBundle>>,
) =>
  Object.keys(others).every(name => JSON.stringify(some[name]?.roots) === JSON.stringify(others[name]?.roots))
