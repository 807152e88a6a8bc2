// The ValidatingAdmissionPolicies on a real API server, without any server of ours: what they refuse, with which
// message, and what they leave alone.
import t from 'tap'
import { POD_ANNOTATIONS } from '../../shared/injection/annotations.ts'
import { connectKube, isKubeError } from '../../shared/kube/rest.ts'
import { WORKLOAD_ROLE } from '../../shared/names.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { certificateRequest } from './support/certificate-request.ts'
import {
  applyManifests,
  createNamespace,
  createPod,
  createServiceAccount,
  DEPLOY,
  install,
  outcome,
  until,
} from './support/installation.ts'

const skip = requireApiServer()
let server: ApiServer

t.before(async () => {
  if (skip) return
  server = await startApiServer({ controllerManager: true })
  // A namespace of before the installation, with a label that is refused later.
  await createNamespace(server.kube, 'old', { 'postern.dev/mode': 'strikt' })
  await install(server)
  await createNamespace(server.kube, 'shop')
})
t.teardown(() => server?.[Symbol.asyncDispose]())

type Keys = Readonly<Record<string, string>>

const OPT_IN: Keys = { 'postern.dev/inject': 'enabled' }

const tryPod = (annotations: Keys, { labels = {}, spec = {} }: { labels?: Keys; spec?: object } = {}) =>
  outcome(() =>
    server.kube.create<object>('/api/v1/namespaces/shop/pods?dryRun=All', {
      metadata: { name: 'probe', annotations, labels },
      spec: { containers: [{ name: 'app', image: 'none' }], ...spec },
    }),
  )

const tryNamespace = (labels: Keys, annotations: Keys = {}) =>
  outcome(() =>
    server.kube.create<object>('/api/v1/namespaces?dryRun=All', {
      metadata: { name: 'probe', labels, annotations },
    }),
  )

t.test('what is installed is what the manifests say, nothing defaulted or dropped', { skip }, async t => {
  const { code, stdout, stderr } = await server.kubectl(['diff', '-k', DEPLOY])
  t.strictSame({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' })
})

t.test('a pod without our annotations is left alone, and an opted-out one', { skip }, async t => {
  t.equal(await tryPod({}), 'allowed')
  t.equal(await tryPod({ 'example.com/inject': 'maybe', 'postern.developers.example/x': 'y' }), 'allowed')
  t.equal(await tryPod({ 'postern.dev/inject': 'disabled' }), 'allowed')
})

t.test('every published annotation passes', { skip }, async t => {
  const { inject, ...others } = POD_ANNOTATIONS
  const annotations = Object.fromEntries(Object.values(others).map(({ key }) => [key, '']))
  t.equal(await tryPod({ ...annotations, [inject.key]: 'disabled' }), 'allowed')
})

t.test('an opted-in pod passes the admission policies and waits for the webhook', { skip }, async t => {
  await t.rejects(tryPod({ 'postern.dev/inject': 'enabled' }), {
    status: 500,
    message: /failed calling webhook "pod\.postern\.dev"/,
  })
})

t.test(
  'a pod that opts in never starts without a sidecar, even when no webhook is left',
  { skip },
  async t => {
    const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/postern-injector'
    await server.kube.delete(path)
    // The API server goes on calling a webhook for a moment after it was deleted.
    await until(async () => /PSTN_INJECT_REFUSED/.test(await tryPod(OPT_IN).catch(String)))
    t.match(await tryPod(OPT_IN), /nothing gave it a sidecar; is the MutatingWebhookConfiguration/)
    const initContainers = [{ name: 'postern-proxy', image: 'none', restartPolicy: 'Always' }]
    t.equal(await tryPod(OPT_IN, { spec: { initContainers } }), 'allowed')
    t.equal((await server.kubectl(['apply', '-k', DEPLOY])).code, 0)
  },
)

t.test('a misspelt or unknown annotation is refused by name', { skip }, async t => {
  t.match(
    await tryPod({ 'postern.dev/injekt': 'enabled', 'postern.dev/udpp': 'block' }),
    /unknown annotation.*postern\.dev\/injekt/,
  )
  t.match(
    await tryPod({ 'postern.dev/injekt': 'enabled', 'postern.dev/udpp': 'block' }),
    /postern\.dev\/udpp/,
  )
})

t.test('a value of inject that is neither enabled nor disabled is refused', { skip }, async t => {
  for (const value of ['true', 'Enabled', ''])
    t.match(
      await tryPod({ 'postern.dev/inject': value }),
      /PSTN_ANNOTATION_INVALID: postern.dev\/inject is enabled or disabled/,
    )
})

t.test(
  'the mark of injection is refused on a pod without a sidecar, and passes on one with it',
  { skip },
  async t => {
    t.match(await tryPod({ 'postern.dev/injected': '0.1.0' }), /is set by Postern alone/)
    const initContainers = [{ name: 'postern-proxy', image: 'none', restartPolicy: 'Always' }]
    t.equal(await tryPod({ 'postern.dev/injected': '0.1.0' }, { spec: { initContainers } }), 'allowed')
  },
)

t.test('a label on a pod that should be an annotation is refused', { skip }, async t => {
  t.match(await tryPod({}, { labels: { 'postern.dev/inject': 'enabled' } }), /annotations, not labels/)
})

t.test('namespace labels: the published ones pass, others and other values do not', { skip }, async t => {
  t.equal(await tryNamespace({ 'postern.dev/inject': 'enabled', 'postern.dev/mode': 'strict' }), 'allowed')
  t.match(
    await tryNamespace({ 'postern.dev/modes': 'strict' }),
    /unknown namespace label postern\.dev\/modes/,
  )
  t.match(await tryNamespace({ 'postern.dev/mode': 'strikt' }), /strict or permissive/)
  t.match(await tryNamespace({ 'postern.dev/inject': 'yes' }), /enabled or disabled/)
  t.match(await tryNamespace({}, { 'postern.dev/inject': 'enabled' }), /labels, not annotations/)
})

t.test(
  'a namespace of before keeps its label until somebody writes it, and can be deleted',
  { skip },
  async t => {
    const { kube } = server
    const path = '/api/v1/namespaces/old'
    const merge = (metadata: object) =>
      outcome(() => kube.patch(path, 'application/merge-patch+json', { metadata }))
    t.equal(await merge({ finalizers: [] }), 'allowed')
    t.match(await merge({ labels: { other: 'x' } }), /strict or permissive/)
    t.equal(await merge({ labels: { 'postern.dev/mode': 'strict' } }), 'allowed')
    await kube.delete(path)
    await untilGone(path)
  },
)

t.test('a policy label with another value than true is refused', { skip }, async t => {
  const create = (value: string) =>
    outcome(() =>
      server.kube.create<object>('/api/v1/namespaces/shop/configmaps?dryRun=All', {
        metadata: { name: 'probe', labels: { 'postern.dev/policy': value } },
      }),
    )
  for (const value of ['yes', 'True', '']) t.match(await create(value), /the only value/)
})

t.test('policy that the webhook cannot check is not accepted unchecked', { skip }, async t => {
  const attempt = server.kube.create<object>('/api/v1/namespaces/shop/configmaps', {
    metadata: { name: 'policy', labels: { 'postern.dev/policy': 'true' } },
  })
  await t.rejects(attempt, { status: 500, message: /failed calling webhook "policy\.postern\.dev"/ })
})

t.test('a namespace that holds policy can be deleted', { skip }, async () => {
  const { kube } = server
  await createNamespace(kube, 'leaving')
  const path = '/api/v1/namespaces/leaving'
  await withoutPolicyWebhook(() =>
    kube.create(`${path}/configmaps`, {
      metadata: { name: 'policy', labels: { 'postern.dev/policy': 'true' } },
    }),
  )
  await kube.delete(path)
  await untilGone(path)
})

t.test(
  'another controller’s requests are left alone, unless its namespace holds injected pods',
  { skip },
  async t => {
    const { kube } = server
    await createServiceAccount(kube, 'shop', 'controller')
    const grant = (name: string, rules: object[]) =>
      Promise.all([
        kube.create('/apis/rbac.authorization.k8s.io/v1/clusterroles', { metadata: { name }, rules }),
        kube.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
          metadata: { name },
          roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
          subjects: [{ kind: 'ServiceAccount', name: 'controller', namespace: 'shop' }],
        }),
      ])
    const apiGroups = ['certificates.k8s.io']
    await grant('controller', [{ apiGroups, resources: ['certificatesigningrequests'], verbs: ['create'] }])
    using controller = connectKube(server.endpointFor(await server.tokenFor('shop', 'controller')))
    const request = await certificateRequest('spiffe://example.com/controller')
    const ask = (signerName: string) =>
      outcome(() =>
        controller.create<object>('/apis/certificates.k8s.io/v1/certificatesigningrequests?dryRun=All', {
          metadata: { generateName: 'theirs-', labels: { any: 'label' } },
          spec: { signerName, request, usages: ['client auth'] },
        }),
      )
    t.equal(await ask('example.com/theirs'), 'allowed')
    t.match(await ask('postern.dev/workload'), /not bound to a pod/)

    await createPod(kube, 'shop', 'meshed', 'default')
    await kube.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: `${WORKLOAD_ROLE}:shop` },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: WORKLOAD_ROLE },
      subjects: [
        { apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'system:serviceaccounts:shop' },
      ],
    })
    // RBAC is watched: the mark takes a moment to arrive.
    await until(async () => (await ask('example.com/theirs')) !== 'allowed')
    t.match(await ask('example.com/theirs'), /need the verb request on the signer/)
    await grant('trusted', [
      { apiGroups, resources: ['signers'], resourceNames: ['example.com/*'], verbs: ['request'] },
    ])
    await until(async () => (await ask('example.com/theirs')) === 'allowed')
  },
)

async function withoutPolicyWebhook(act: () => Promise<unknown>): Promise<void> {
  const path = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/postern-injector'
  await server.kube.delete(path)
  await until(() => act().then(() => true, retryIfStillCalled))
  await applyManifests(server)
}

const retryIfStillCalled = (thrown: unknown): false => {
  if (isKubeError(thrown, 500)) return false
  throw thrown
}

const untilGone = (path: string) =>
  until(async () => isKubeError(await server.kube.get(path).catch((thrown: unknown) => thrown), 404))

t.test('the role of mesh-wide policy says nothing of whom the mesh trusts', { skip }, async t => {
  const { kube } = server
  const roles = '/apis/rbac.authorization.k8s.io/v1/namespaces/postern-system'
  const grant = async (name: string, roleRef: object) => {
    await createServiceAccount(kube, 'shop', name)
    await kube.create(`${roles}/rolebindings`, {
      metadata: { name },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', ...roleRef },
      subjects: [{ kind: 'ServiceAccount', name, namespace: 'shop' }],
    })
    return connectKube(server.endpointFor(await server.tokenFor('shop', name)))
  }
  using policyEditor = await grant('mesh-policy', { kind: 'ClusterRole', name: 'postern-policy-editor' })
  await kube.create(`${roles}/roles`, {
    metadata: { name: 'ca-owner' },
    rules: [
      {
        apiGroups: [''],
        resources: ['secrets', 'configmaps'],
        verbs: ['get', 'create', 'update', 'patch', 'delete'],
      },
    ],
  })
  using owner = await grant('ca-owner', { kind: 'Role', name: 'ca-owner' })
  const configMaps = '/api/v1/namespaces/postern-system/configmaps'
  for (const name of ['postern-trust', 'postern-ca', 'postern-outside-roots', 'postern-config-new']) {
    const create =
      (as: typeof kube, dry = '?dryRun=All') =>
      () =>
        as.create<object>(`${configMaps}${dry}`, { metadata: { name }, data: { 'roots.pem': 'mine' } })
    const refused = /this needs update on the Secret postern-ca/
    t.match(await outcome(create(policyEditor)), refused, `create ${name}`)
    t.equal(await outcome(create(owner, '')), 'allowed')
    const change = (as: typeof kube) => () =>
      as.patch(`${configMaps}/${name}?dryRun=All`, 'application/merge-patch+json', { data: { a: 'b' } })
    t.match(await outcome(change(policyEditor)), refused, `change ${name}`)
    t.equal(await outcome(change(owner)), 'allowed')
    const remove = (as: typeof kube) => () => as.delete(`${configMaps}/${name}?dryRun=All`)
    t.match(
      await outcome(remove(policyEditor)),
      /this needs delete on the Secret postern-ca/,
      `delete ${name}`,
    )
    t.equal(await outcome(remove(owner)), 'allowed')
  }
  using revoker = await grant('revoker', { kind: 'ClusterRole', name: 'postern-revoker' })
  const list = 'postern-revocations'
  const revoke = (as: typeof kube, dry: string) => () =>
    as.create<object>(`${configMaps}${dry}`, { metadata: { name: list } })
  const lift = (as: typeof kube) => () =>
    as.patch(`${configMaps}/${list}?dryRun=All`, 'application/merge-patch+json', { data: { a: 'b' } })
  const forbidden = /this needs update on revocations\.policy\.postern\.dev .*postern-revoker/
  for (const as of [policyEditor, owner]) t.match(await outcome(revoke(as, '?dryRun=All')), forbidden)
  t.equal(await outcome(revoke(revoker, '')), 'allowed')
  t.match(await outcome(lift(policyEditor)), forbidden)
  t.equal(await outcome(lift(revoker)), 'allowed')
  t.match(
    await outcome(() => policyEditor.delete(`${configMaps}/${list}?dryRun=All`)),
    /this needs delete on revocations/,
  )
  const other = outcome(() =>
    policyEditor.create<object>(`${configMaps}?dryRun=All`, { metadata: { name: 'other' } }),
  )
  t.equal(await other, 'allowed', 'what else is there is left alone')
})
