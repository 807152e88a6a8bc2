// The CA's Secret on a real API server: creation is a race that one replica wins, renewal a compare-and-swap.
import t from 'tap'
import { loadOrCreateAuthority } from '../../injector/ca/keeper.ts'
import { readCa, readOrCreateCa, renewIssuer } from '../../injector/ca/store.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { until } from '../../shared/live.ts'
import { createLogger } from '../../shared/log.ts'
import { CA_SECRET } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'

const skip = requireApiServer()
const DAY_MS = 86_400_000
const log = createLogger('test', 'error')
let server: ApiServer

t.before(async () => {
  if (!skip) server = await startApiServer()
})
t.teardown(() => server?.[Symbol.asyncDispose]())

async function place(namespace: string) {
  await server.kube.create('/api/v1/namespaces', { metadata: { name: namespace } })
  return { namespace, trustDomain: 'cluster.local' }
}
const secretPath = (namespace: string) => `/api/v1/namespaces/${namespace}/secrets/${CA_SECRET}`

t.test('replicas that start together agree on one CA', { skip }, async t => {
  const at = await place('together')
  const all = await Promise.all(Array.from({ length: 5 }, () => readOrCreateCa(server.kube, at, Date.now())))
  t.equal(new Set(all.map(({ material }) => material.root.certificate)).size, 1)
  t.equal(new Set(all.map(({ material }) => material.issuer.key)).size, 1)
})

t.test(
  'of two leaders that renew the issuer, one wins and both use it, under the same root',
  { skip },
  async t => {
    const at = await place('renewal')
    const before = await readOrCreateCa(server.kube, at, Date.now())
    const renewed = await Promise.all([1, 2].map(() => renewIssuer(server.kube, at, before, Date.now())))
    const [one, two] = renewed.map(({ material }) => material)
    t.same(one, two)
    t.same(one?.root, before.material.root)
    t.not(one?.issuer.certificate, before.material.issuer.certificate)
    t.same((await readCa(server.kube, at, Date.now())).material, one)
  },
)

t.test('an unusable CA is refused with its place, and never overwritten', { skip }, async t => {
  const at = await place('broken')
  const data = { 'root.crt': Buffer.from('mine').toString('base64') }
  await server.kube.create('/api/v1/namespaces/broken/secrets', { metadata: { name: CA_SECRET }, data })
  await t.rejects(readOrCreateCa(server.kube, at, Date.now()), {
    code: 'PSTN_CONFIG_INVALID',
    message: /broken\/postern-ca, root\.key: missing/,
  })
  t.match(await server.kube.get(secretPath('broken')), { data })
})

t.test('the leader renews a due issuer, and other replicas follow within a minute', { skip }, async t => {
  const at = await place('rotation')
  const stop = new AbortController()
  let offset = 0
  // Minutes pass in hundredths of a second, and one assignment makes three weeks.
  const clock: Clock = {
    now: () => Date.now() + offset,
    monotonic: systemClock.monotonic,
    sleep: (ms, signal) => systemClock.sleep(ms / 6_000, signal),
  }
  const context = { kube: server.kube, clock, log }
  const leader = await loadOrCreateAuthority(context, at, stop.signal)
  const follower = await loadOrCreateAuthority(context, at, stop.signal)
  const loops = [leader.renew(stop.signal), follower.follow(stop.signal)]
  const first = follower.authority.get()
  await new Promise(resolve => setTimeout(resolve, 200))
  t.equal(follower.authority.get(), first, 'nothing changes while the issuer is young')
  offset = 21 * DAY_MS
  const newer = (value: typeof first): value is typeof first => value.issuer.serial !== first.issuer.serial
  const second = await until(follower.authority, newer, AbortSignal.timeout(10_000))
  t.same(second.roots, first.roots)
  t.equal(second.issuer.serial, leader.authority.get().issuer.serial)
  t.ok(second.issuer.isSignedBy(parseCertificate(first.roots[0] ?? '')))
  stop.abort()
  await Promise.all(loops)
})
