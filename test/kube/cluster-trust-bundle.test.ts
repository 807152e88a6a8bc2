// The ClusterTrustBundle on a real API server: absent and not missed without the API, found after an upgrade, kept equal to
// the roots with the injector's rights and read with a pod's, and what happens without the right to write it.
import { pino } from 'pino'
import t, { type Test } from 'tap'
import {
  type ClusterTrustBundleKeeper,
  keepClusterTrustBundle,
} from '../../injector/trust/cluster-trust-bundle.ts'
import { publishTrust } from '../../injector/trust/publisher.ts'
import { openStateVolume } from '../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../proxy/credentials/trust.ts'
import { systemClock } from '../../shared/clock.ts'
import {
  type ClusterTrustBundle,
  clusterTrustBundlePath,
  clusterTrustBundles,
} from '../../shared/cluster-trust-bundle.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { live } from '../../shared/live.ts'
import {
  INJECTOR_NAME,
  SYSTEM_NAMESPACE,
  TRUST_DOMAIN_ANNOTATION,
  WORKLOAD_SIGNER,
} from '../../shared/names.ts'
import { CLUSTER_TRUST_BUNDLE_FLAGS, startApiServer } from '../support/api-server.ts'
import { testAuthority } from '../support/certificates.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { applyManifests, createNamespace, until, untilRefused } from './support/installation.ts'

const TRUST_DOMAIN = 'cluster.local'
const PATH = clusterTrustBundlePath('v1beta1')
const ROLE = `/apis/rbac.authorization.k8s.io/v1/clusterroles/${INJECTOR_NAME}`
const MERGE = 'application/merge-patch+json'
const [first, second, third] = await Promise.all([1, 2, 3].map(() => testAuthority(TRUST_DOMAIN)))
/** That anybody may create who may create any of our signer. */
const wrongBundle = {
  metadata: { name: 'postern.dev:workload:other' },
  spec: { signerName: WORKLOAD_SIGNER, trustBundle: first?.root },
}
const rootOf = (authority = first) => authority?.root ?? ''

/** The leader's two publishers, with rechecks of half a minute each half second, and what they said. */
async function startLeader(t: Test) {
  const server = await startApiServer()
  const undo = new AsyncDisposableStack()
  undo.use(server)
  t.teardown(() => undo.disposeAsync())
  await applyManifests(server)
  await createNamespace(server.kube, 'shop')
  const as = async (namespace: string, account: string) =>
    undo.use(connectKube(server.endpointFor(await server.tokenFor(namespace, account))))
  const lines: string[] = []
  const write = (line: string) => void lines.push(line)
  const bundle = live({ trustDomain: TRUST_DOMAIN, roots: [rootOf(first)] })
  let behind = false
  const injector = await as(SYSTEM_NAMESPACE, INJECTOR_NAME)
  const keeper: ClusterTrustBundleKeeper = {
    kube: injector,
    bundle,
    clock: { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 60, signal) },
    random: Math.random,
    log: pino({ level: 'info', messageKey: 'msg' }, { write }),
    behind: value => {
      behind = value
    },
  }
  const stop = new AbortController()
  const running = [keepClusterTrustBundle(keeper, stop.signal), publishTrust(keeper, stop.signal)]
  undo.defer(async () => {
    stop.abort()
    await Promise.all(running)
  })
  const present = () => server.kube.get<ClusterTrustBundle>(PATH).catch(() => undefined)
  return {
    server,
    injector,
    bundle,
    pod: await as('shop', 'default'),
    behind: () => behind,
    said: (text: string) => lines.filter(line => line.includes(text)).length,
    present,
    becomes: (...roots: string[]) =>
      until(async () => (await present())?.spec.trustBundle === roots.join('')),
  }
}

/** A sidecar's store at first contact, and what it passed over. */
async function firstContact(t: Test, kube: Parameters<typeof openTrustStore>[0]) {
  const volume = openStateVolume(scratchDirectory(t), error => t.fail(error.message))
  const passedOver: string[] = []
  const store = await openTrustStore(kube, TRUST_DOMAIN, volume, ({ message }) => passedOver.push(message))
  await store.refresh(new AbortController().signal)
  return { store, passedOver, roots: () => store.bundle.get()?.roots }
}

t.test(
  'an API server without ClusterTrustBundles, and then with them',
  { skip: requireApiServer() },
  async t => {
    const { server, bundle, pod, behind, said, present, becomes } = await startLeader(t)
    const never = new AbortController().signal

    await until(async () => said('trust bundle published') > 0)
    const early = await firstContact(t, pod)
    t.same(early.roots(), [rootOf(first)], 'the ConfigMap serves')
    t.same(early.passedOver, [])
    t.equal(said('ClusterTrustBundle'), 0, 'nothing is said of what is not there')
    t.equal(behind(), false)

    await server.stop()
    await server.start(CLUSTER_TRUST_BUNDLE_FLAGS)
    await becomes(rootOf(first))
    const made = await present()
    t.equal(made?.spec.signerName, WORKLOAD_SIGNER)
    t.equal(made?.metadata.annotations?.[TRUST_DOMAIN_ANNOTATION], TRUST_DOMAIN)
    await server.kube.patch(PATH, MERGE, { spec: { trustBundle: rootOf(third) } })
    await becomes(rootOf(first))
    t.pass('an edit is taken back')
    await server.kube.delete(PATH)
    await becomes(rootOf(first))
    t.pass('a deletion is taken back')
    bundle.set({ trustDomain: TRUST_DOMAIN, roots: [rootOf(first), rootOf(second), rootOf(first)] })
    await becomes(rootOf(first), rootOf(second))
    t.pass('a change of the roots is published, each root once')

    const sidecar = await firstContact(t, pod)
    t.same(sidecar.roots(), [rootOf(first), rootOf(second)], 'a pod of any namespace reads it')
    await server.kube.delete(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/postern-trust`)
    t.same(
      (await firstContact(t, pod)).roots(),
      [rootOf(first), rootOf(second)],
      'also without the ConfigMap',
    )

    await server.stop()
    await server.start()
    await until(() =>
      sidecar.store.refresh(never).then(
        () => true,
        () => false,
      ),
    )
    t.same(
      sidecar.roots(),
      [rootOf(first), rootOf(second)],
      'where the API is taken away the ConfigMap serves again',
    )
    t.same(sidecar.passedOver, [])
  },
)

t.test(
  'manifests of an older version: the injector may not write it',
  { skip: requireApiServer() },
  async t => {
    const { server, injector, bundle, pod, behind, said, present, becomes } = await startLeader(t)
    await server.stop()
    await server.start(CLUSTER_TRUST_BUNDLE_FLAGS)
    await becomes(rootOf(first))
    const never = new AbortController().signal
    const sidecar = await firstContact(t, pod)

    type Rules = { rules: { resources: string[]; verbs: string[] }[] }
    const { rules } = await server.kube.get<Rules>(ROLE)
    const older = rules
      .filter(({ resources }) => !resources.includes('clustertrustbundles'))
      .map(rule => ({ ...rule, verbs: rule.verbs.filter(verb => verb !== 'attest') }))
    await server.kube.patch(ROLE, MERGE, { rules: older })
    await untilRefused(() => injector.create(`${clusterTrustBundles('v1beta1')}?dryRun=All`, wrongBundle))
    bundle.set({ trustDomain: TRUST_DOMAIN, roots: [rootOf(second)] })
    await until(async () => behind() && (await firstContact(t, pod)).passedOver.length > 0)
    t.equal(said('cannot update resource'), 1, 'it is said once')
    t.equal((await present())?.spec.trustBundle, rootOf(first), 'what it holds is behind')

    sidecar.store.adopt([{ trustDomain: TRUST_DOMAIN, roots: [rootOf(second)] }])
    await sidecar.store.refresh(never)
    t.same(sidecar.roots(), [rootOf(second)], 'what was pushed stays in force at a renewal')
    t.match(sidecar.passedOver, [/differ/], 'and it is said once')
    const late = await firstContact(t, pod)
    t.same(late.roots(), [rootOf(first)], 'a new sidecar begins with it')
    await late.store.refresh(never, 'doubt')
    t.same(
      late.roots(),
      [rootOf(second)],
      'and finds the ConfigMap behind it when the injector cannot be verified',
    )
    await late.store.refresh(never)
    t.same(late.roots(), [rootOf(second)])

    const healed = said('in order again')
    await applyManifests(server)
    await becomes(rootOf(second))
    await until(async () => !behind())
    t.equal(said('in order again'), healed + 1)
    t.same((await firstContact(t, pod)).passedOver, [], 'all is well again')
  },
)
