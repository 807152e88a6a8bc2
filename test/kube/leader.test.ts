// The Lease on a real API server, by candidates with the injector's rights: conflicts and times as it has them.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { type Lease, lead } from '../../injector/leader.ts'
import { systemClock } from '../../shared/clock.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { createLogger } from '../../shared/log.ts'
import { INJECTOR_NAME, LEADER_LEASE, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { applyManifests, until } from './support/installation.ts'

const timing = { leaseSeconds: 2, renewDeadlineMs: 1_300, retryMs: 200 }
const PATH = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM_NAMESPACE}/leases/${LEADER_LEASE}`

t.test('leadership on a real API server', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer())
  await applyManifests(server)
  const log = createLogger('test', 'error')
  const token = await server.tokenFor(SYSTEM_NAMESPACE, INJECTOR_NAME)
  /** Who leads now; more than one at a time is a failure of everything. */
  const leading = new Set<string>()
  let most = 0
  const candidate = (identity: string) => {
    const kube = undo.use(connectKube(server.endpointFor(token)))
    const end = new AbortController()
    const onLeading = async (signal: AbortSignal) => {
      leading.add(identity)
      most = Math.max(most, leading.size)
      await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
      leading.delete(identity)
    }
    const options = { namespace: SYSTEM_NAMESPACE, name: LEADER_LEASE, identity, onLeading, log, timing }
    const running = lead(kube, { ...options, clock: systemClock }, end.signal)
    const stop = async () => {
      end.abort()
      await running
    }
    undo.defer(stop)
    return { stop }
  }
  const lease = () => server.kube.get<Lease>(PATH)

  const candidates = new Map(['a', 'b', 'c'].map(identity => [identity, candidate(identity)]))
  await t.test('of three candidates that start together one leads, and goes on', async t => {
    await until(async () => leading.size === 1)
    const [first] = leading
    await delay(3_000)
    t.same([...leading], [first])
    t.match(await lease(), {
      spec: { holderIdentity: first, leaseDurationSeconds: 2, renewTime: /^\d{4}-.*\.\d{6}Z$/ },
    })
  })

  await t.test('when it stops, another leads', async t => {
    const [first = ''] = leading
    await candidates.get(first)?.stop()
    await until(async () => leading.size === 1)
    t.notOk(leading.has(first))
    t.match(await lease(), { spec: { leaseTransitions: 2 } })
  })

  await t.test('in an outage of the API server nobody leads; after it, one does', async t => {
    log.level = 'silent'
    await server.stop()
    await until(async () => leading.size === 0)
    t.equal(leading.size, 0)
    await server.start()
    await until(async () => leading.size === 1)
    t.equal(most, 1, 'never two at a time')
  })
})
