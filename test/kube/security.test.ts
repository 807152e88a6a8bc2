// Attacks of docs/security.md that need a real API server and no injector: by whoever may write pods of a namespace, by
// what comes into a pod after the webhook, and by a node.
import type { V1Container, V1Pod } from '@kubernetes/client-node'
import t from 'tap'
import { connectKube, type Kube } from '../../shared/kube/rest.ts'
import { CERTIFICATE_VOLUME, STATE_VOLUME, TOKEN_VOLUME, WORKLOAD_ROLE } from '../../shared/names.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { injectInto, pod } from '../support/pods.ts'
import { requireApiServer } from '../support/requirements.ts'
import { certificateRequest } from './support/certificate-request.ts'
import {
  createNamespace,
  createServiceAccount,
  install,
  outcome,
  until,
  untilAllowed,
} from './support/installation.ts'

const skip = requireApiServer()
const SHOP = '/api/v1/namespaces/shop'
const MERGE = 'application/merge-patch+json'
const RBAC = '/apis/rbac.authorization.k8s.io/v1'
const NODES = { victim: 'node-of-the-victim', captured: 'node-that-was-captured' }
const PRIVATE_VOLUMES = [STATE_VOLUME, TOKEN_VOLUME, CERTIFICATE_VOLUME]
let server: ApiServer
let editor: Kube
const stack = new AsyncDisposableStack()

t.before(async () => {
  if (skip) return
  server = stack.use(
    await startApiServer({ controllerManager: true, flags: ['--enable-admission-plugins=NodeRestriction'] }),
  )
  const { kube } = server
  await install(server)
  // No injector runs here: what it does to a pod is done by hand.
  await kube.delete('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/postern-injector')
  await createNamespace(kube, 'shop', { 'postern.dev/mode': 'strict' })
  for (const account of ['web', 'ledger']) await createServiceAccount(kube, 'shop', account)
  await createNamespace(kube, 'people')
  await createServiceAccount(kube, 'people', 'editor')
  await kube.create(`${RBAC}/namespaces/shop/rolebindings`, {
    metadata: { name: 'editor' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
    subjects: [{ kind: 'ServiceAccount', name: 'editor', namespace: 'people' }],
  })
  editor = stack.use(connectKube(server.endpointFor(await server.tokenFor('people', 'editor'))))
  await untilAllowed(() => editor.get(`${SHOP}/pods`))
  await until(
    async () => (await tryPod({ container: { securityContext: { runAsUser: 15_008 } } })) !== 'allowed',
  )
})
t.teardown(() => stack.disposeAsync())

/** An injected pod, as the webhook leaves it, with what somebody added afterwards. */
const injected = (name: string, { container, spec }: Parts = {}): V1Pod => {
  const { metadata, spec: given } = injectInto(pod())
  const containers = (given?.containers ?? []).map(each => ({ ...each, ...container }))
  return {
    metadata: { annotations: metadata?.annotations ?? {}, name },
    spec: { ...given, volumes: [...(given?.volumes ?? []), CERTIFICATE], ...spec, containers },
  }
}

/** Of pods whose certificate comes from the kubelet; any kind will do here. */
const CERTIFICATE = { name: CERTIFICATE_VOLUME, emptyDir: {} }

type Parts = { readonly container?: Partial<V1Container>; readonly spec?: object }

const tryPod = (parts: Parts = {}) =>
  outcome(() => server.kube.create<object>(`${SHOP}/pods?dryRun=All`, injected('probe', parts)))

t.test(
  'a container that another webhook adds behind ours cannot run as the sidecar’s user, nor mount its key',
  { skip },
  async t => {
    t.equal(await tryPod(), 'allowed', 'what our webhook makes')
    t.equal(await tryPod({ container: { securityContext: { runAsUser: 1000 } } }), 'allowed')
    for (const securityContext of [{ runAsUser: 15_008 }, { runAsGroup: 15_008 }])
      t.match(await tryPod({ container: { securityContext } }), /15008 is the sidecar's own user and group/)
    for (const name of PRIVATE_VOLUMES)
      t.match(
        await tryPod({ container: { volumeMounts: [{ name, mountPath: '/stolen' }] } }),
        /do not mount them/,
      )
    for (const spec of [{ shareProcessNamespace: true }, { hostPID: true }])
      t.match(await tryPod({ spec }), /could read the sidecar's key through \/proc/)
  },
)

t.test('an ephemeral container cannot run as the sidecar’s user, nor mount its key', { skip }, async t => {
  const { kube } = server
  await kube.create(`${SHOP}/pods`, injected('web-0'))
  const debug = (container: object) =>
    outcome(() =>
      kube.patch(`${SHOP}/pods/web-0/ephemeralcontainers?dryRun=All`, MERGE, {
        spec: { ephemeralContainers: [{ name: 'debugger', image: 'none', ...container }] },
      }),
    )
  t.equal(await debug({}), 'allowed')
  t.equal(await debug({ targetContainerName: 'app', securityContext: { runAsUser: 1000 } }), 'allowed')
  for (const securityContext of [{ runAsUser: 15_008 }, { runAsGroup: 15_008 }])
    t.match(await debug({ securityContext }), /PSTN_INJECT_REFUSED: 15008 is the sidecar's own/)
  for (const name of PRIVATE_VOLUMES)
    t.match(
      await debug({ volumeMounts: [{ name, mountPath: '/stolen' }] }),
      /PSTN_INJECT_REFUSED.*do not mount them/,
    )
})

t.test('a container that could leave the capture is allowed, and its author is warned', { skip }, async t => {
  const write = async (securityContext: object) => {
    const body = { apiVersion: 'v1', kind: 'Pod', ...injected('probe', { container: { securityContext } }) }
    return server.kubectl(['-n', 'shop', 'create', '--dry-run=server', '-f', '-'], JSON.stringify(body))
  }
  t.match(await write({ runAsUser: 1000 }), { code: 0, stderr: '' })
  for (const securityContext of [{ privileged: true }, { capabilities: { add: ['NET_ADMIN'] } }])
    t.match(await write(securityContext), {
      code: 0,
      stderr: /Warning: .*app can leave the capture of its traffic/,
    })
})

t.test('whoever edits a namespace cannot loosen its mode, nor give a pod an address', { skip }, async t => {
  const { kube } = server
  await kube.create(`${SHOP}/pods`, injected('web-1'))
  const relabelled = { metadata: { labels: { 'postern.dev/mode': 'permissive' } } }
  const relabel = (as: Kube) => outcome(() => as.patch(`${SHOP}?dryRun=All`, MERGE, relabelled))
  t.match(await relabel(editor), /cannot patch resource "namespaces"/)
  t.equal(await relabel(kube), 'allowed')
  const claim = (as: Kube) =>
    outcome(() =>
      as.patch(`${SHOP}/pods/web-1/status?dryRun=All`, MERGE, {
        status: { podIP: '10.244.0.9', podIPs: [{ ip: '10.244.0.9' }] },
      }),
    )
  t.match(await claim(editor), /cannot patch resource "pods\/status"/)
  t.equal(await claim(kube), 'allowed')
  t.match(
    await outcome(() =>
      editor.patch(`${SHOP}/pods/web-1/ephemeralcontainers?dryRun=All`, MERGE, { spec: {} }),
    ),
    /cannot patch resource "pods\/ephemeralcontainers"/,
    'the role edit adds no ephemeral containers either',
  )
})

t.test('a node gets tokens of the pods that run on it, and of no others', { skip }, async t => {
  const { kube } = server
  const uids = new Map<string, string>()
  for (const [role, name] of Object.entries(NODES)) {
    await kube.create('/api/v1/nodes', { metadata: { name } })
    const spec = { nodeName: name, serviceAccountName: role === 'victim' ? 'ledger' : 'web' }
    const created = await kube.create<V1Pod>(`${SHOP}/pods`, injected(role, { spec }))
    uids.set(role, created.metadata?.uid ?? '')
  }
  const tokenOf = async (role: 'victim' | 'captured', account: string) => {
    const asNode = [`--as=system:node:${NODES.captured}`, '--as-group=system:nodes']
    const bound = [
      '--bound-object-kind=Pod',
      `--bound-object-name=${role}`,
      `--bound-object-uid=${uids.get(role)}`,
    ]
    return server.kubectl(['-n', 'shop', 'create', 'token', account, ...bound, ...asNode])
  }
  await until(async () => (await tokenOf('captured', 'web')).code === 0)
  t.equal((await tokenOf('captured', 'web')).code, 0, 'its own pod: such a node is every pod on it')
  t.match((await tokenOf('victim', 'ledger')).stderr, /forbidden/i)
  t.match((await tokenOf('captured', 'ledger')).stderr, /forbidden/i)
  t.match((await tokenOf('victim', 'web')).stderr, /forbidden|not running on|referenced/i)
})

t.test(
  'what may ask for certificates is a namespace’s service accounts, and only under its own pods’ names',
  { skip },
  async t => {
    const { kube } = server
    const request = await certificateRequest('spiffe://cluster.local/ns/shop/sa/web')
    const unbound = await server.tokenFor('shop', 'web')
    using thief = connectKube(server.endpointFor(unbound))
    const ask = () =>
      outcome(() =>
        thief.create<object>('/apis/certificates.k8s.io/v1/certificatesigningrequests?dryRun=All', {
          metadata: { name: 'postern-any-0' },
          spec: { signerName: 'postern.dev/workload', request, usages: ['client auth'] },
        }),
      )
    t.match(
      await ask(),
      /cannot create resource "certificatesigningrequests"/,
      'before a pod of it was injected',
    )
    await kube.create(`${RBAC}/clusterrolebindings`, {
      metadata: { name: `${WORKLOAD_ROLE}:shop` },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: WORKLOAD_ROLE },
      subjects: [
        { apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'system:serviceaccounts:shop' },
      ],
    })
    await until(async () => !/cannot create resource/.test(await ask()))
    t.match(await ask(), /PSTN_CSR_DENIED: the token is not bound to a pod/)
  },
)
