// etcd put back to an older state under the parts of an injector that live on: what was answered is answered again, the CA's
// root is not lost, one replica leads, and sidecars renew.
import { generateKeyPairSync } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { loadOrCreateAuthority } from '../../injector/ca/keeper.ts'
import { readCa } from '../../injector/ca/store.ts'
import { lead } from '../../injector/leader.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { createLogger } from '../../shared/log.ts'
import { createRegistry } from '../../shared/metrics.ts'
import { CA_SECRET, LEADER_LEASE, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import { requireApiServer } from '../support/requirements.ts'
import { askingPod, publishRoots } from './support/asking-pod.ts'
import {
  answered,
  createPod,
  eventually,
  type SignerCluster,
  startSignerCluster,
  submit,
  TRUST_DOMAIN,
} from './support/signer-cluster.ts'

const skip = requireApiServer()
const DAY_MS = 86_400_000
/** A restoration takes about five seconds; renewed after 7 to 10. */
const LEAF_SECONDS = 20
const identity = workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: 'cart' })
const silent = createLogger('test', 'error')
silent.level = 'silent'
let cluster: SignerCluster

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  await publishRoots(cluster)
})
t.teardown(() => cluster?.[Symbol.asyncDispose]())

/** A leader that is not told of its end by the outage: it lasts less than the deadline of its Lease. */
function signer() {
  const stop = new AbortController()
  const running = cluster
    .controller({ maxLeafLifetimeSeconds: LEAF_SECONDS, cleanupAfterMs: 2_000 })
    .run(stop.signal)
  return {
    [Symbol.asyncDispose]: () => {
      stop.abort()
      return running
    },
  }
}

t.test('a request whose answer was lost is answered again, by the same leader', { skip }, async t => {
  const { server } = cluster
  const pod = await createPod(server.kube, 'answered-twice')
  const asPod = await cluster.clientOf('cart', pod)
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const waiting = await submit(asPod, pod, createCsr(keys, identity))
  const backup = await server.backUp()
  await using _ = signer()
  const first = await answered(asPod, waiting)
  await server.restore(backup)
  const second = await answered(asPod, waiting)
  t.equal(second.metadata?.uid, first.metadata?.uid, 'the same object')
  t.ok(second.status?.certificate)
  t.not(second.status?.certificate, first.status?.certificate, 'the first is lost')
})

t.test('sidecars renew on, although their names are taken by requests of the past', { skip }, async t => {
  const { server } = cluster
  await using _ = signer()
  const pods = await Promise.all(['past-0', 'past-1', 'past-2'].map(name => askingPod(t, cluster, name)))
  await Promise.all(pods.map(pod => pod.next()))
  const backup = await server.backUp()
  await Promise.all(pods.map(pod => pod.next()))
  await server.restore(backup)
  const restored = Date.now()
  await Promise.all(pods.map(pod => pod.next()))
  t.comment(`all renewed ${Date.now() - restored} ms after the restoration`)
  t.same(
    pods.map(pod => pod.without()),
    [0, 0, 0],
    'nobody was ever without a certificate',
  )
})

t.test('one replica leads afterwards, and never two', { skip }, async t => {
  const { server, injectorKube } = cluster
  const leading = new Set<string>()
  let most = 0
  const candidate = (name: string) => {
    const end = new AbortController()
    const running = lead(
      injectorKube,
      {
        namespace: SYSTEM_NAMESPACE,
        name: LEADER_LEASE,
        identity: name,
        log: silent,
        clock: systemClock,
        timing: { leaseSeconds: 3, renewDeadlineMs: 2_000, retryMs: 300 },
        onLeading: async signal => {
          leading.add(name)
          most = Math.max(most, leading.size)
          await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
          leading.delete(name)
        },
      },
      end.signal,
    )
    const stop = () => {
      end.abort()
      return running
    }
    t.teardown(stop)
    return stop
  }
  const leads = (name: string) => eventually(async () => leading.has(name) || undefined, `${name} to lead`)
  const stopFirst = candidate('first')
  await leads('first')
  const backup = await server.backUp()
  await stopFirst()
  candidate('second')
  await leads('second')
  await server.restore(backup)
  const restored = Date.now()
  await leads('second')
  t.comment(`leads again ${Date.now() - restored} ms after the restoration: the Lease names one that is gone`)
  t.equal(most, 1)
})

/** A replica's CA, whose weeks pass at a word. */
async function replica() {
  let offset = 0
  const clock: Clock = {
    now: () => Date.now() + offset,
    monotonic: systemClock.monotonic,
    sleep: (ms, signal) => systemClock.sleep(ms / 600, signal),
  }
  const registry = createRegistry()
  const stop = new AbortController()
  const context = { kube: cluster.server.kube, clock, log: silent, registry }
  const keeper = await loadOrCreateAuthority(context, PLACE, stop.signal)
  const running = Promise.all([keeper.follow(stop.signal), keeper.renew(stop.signal)])
  return {
    authority: keeper.authority,
    pass: (ms: number) => {
      offset += ms
    },
    refused: () => registry.render().includes('postern_ca_refused 1\n'),
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await running
    },
  }
}
const PLACE = { namespace: SYSTEM_NAMESPACE, trustDomain: TRUST_DOMAIN }
const SECRET = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/secrets/${CA_SECRET}`
const TRUST = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${TRUST_CONFIGMAP}`

t.test('an issuer of the past is taken up again, and renewed as it is due', { skip }, async t => {
  const { server } = cluster
  await using ca = await replica()
  const [root] = ca.authority.get().roots
  const old = ca.authority.get().issuer.serial
  const backup = await server.backUp()
  ca.pass(21 * DAY_MS)
  const renewed = await eventually(async () => {
    const { serial } = ca.authority.get().issuer
    return serial === old ? undefined : serial
  }, 'a new issuer')
  await server.restore(backup)
  const again = await eventually(async () => {
    const { serial } = ca.authority.get().issuer
    return serial === old || serial === renewed ? undefined : serial
  }, 'another issuer')
  t.same(ca.authority.get().roots, [root], 'under the same root')
  await delay(500)
  t.notOk(ca.refused())
  const stored = await readCa(server.kube, PLACE, Date.now() + 21 * DAY_MS)
  t.match(stored.material.issuer.certificate, ca.authority.get().issuer.pem, again)
})

t.test(
  'a Secret that went back to another root is refused, and the root in force stays',
  { skip },
  async t => {
    const { server } = cluster
    const backup = await server.backUp()
    const former = (await readCa(server.kube, PLACE, Date.now())).material.root.certificate
    // An operator began anew.
    await server.kube.delete(SECRET)
    await server.kube.delete(TRUST)
    await using ca = await replica()
    const [root] = ca.authority.get().roots
    t.not(root, former)
    await server.restore(backup)
    await eventually(async () => ca.refused() || undefined, 'PSTN_CA_REFUSED')
    ca.pass(21 * DAY_MS)
    await delay(1_000)
    t.same(ca.authority.get().roots, [root])
    const stored = await readCa(server.kube, PLACE, Date.now())
    t.equal(stored.material.root.certificate, former, 'what was put back is not overwritten')
  },
)
