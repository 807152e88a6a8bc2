// Who may do what, tried on a real API server with the manifests installed: the table of docs/identities.md, which is
// compared with it. Every attempt is a dry run, so that each row starts from the same objects.
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { podCertificateRequests } from '../../injector/podcertificates/objects.ts'
import { CA_REQUEST_PREFIX } from '../../shared/ca/request.ts'
import { clusterTrustBundlePath, clusterTrustBundles } from '../../shared/cluster-trust-bundle.ts'
import { connectKube, type Kube } from '../../shared/kube/rest.ts'
import {
  CA_CONFIGMAP,
  CA_SECRET,
  CLUSTER_TRUST_BUNDLE,
  csrName,
  FEDERATION_LABEL,
  INJECTOR_NAME,
  PARTNERS_CONFIGMAP,
  POLICY_LABEL,
  REVOCATIONS_CONFIGMAP,
  SERVING_SIGNER,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../shared/names.ts'
import {
  type ApiServer,
  CLUSTER_TRUST_BUNDLE_FLAGS,
  POD_CERTIFICATE_FLAGS,
  startApiServer,
} from '../support/api-server.ts'
import { testAuthority } from '../support/certificates.ts'
import { kubeletStub, newKeys } from '../support/pod-certificate.ts'
import { requireApiServer } from '../support/requirements.ts'
import { asAnybody } from './support/as-anybody.ts'
import { certificateRequest } from './support/certificate-request.ts'
import {
  createNamespace,
  createPod,
  createServiceAccount,
  install,
  outcome,
  systemPath,
  untilAllowed,
  untilRefused,
} from './support/installation.ts'

const IDENTITIES = {
  pod: 'the pod shop/cart-0, by the token that the kubelet gives it',
  sibling: 'another pod of the same service account',
  unbound: 'the same service account, by a token that is bound to no pod',
  stranger: 'a pod of a namespace without injected pods',
  injector: 'the injector',
  editor: 'whoever has the role edit in shop',
  admin: 'whoever has the role admin in shop',
  policyEditor: 'whoever has the role postern-policy-editor in shop',
  servingApprover: 'whoever has the cluster role postern-serving-approver',
  anonymous: 'nobody in particular',
} as const
type Identity = keyof typeof IDENTITIES

const WORKLOADS = ['pod', 'sibling', 'unbound'] as const
const ACCOUNTS = [
  ...WORKLOADS,
  'stranger',
  'injector',
  'editor',
  'admin',
  'policyEditor',
  'servingApprover',
] as const

/** A person's request for a serving certificate. */
const SERVING = 'web-serving'
const CSRS = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
const BINDINGS = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings'
const WEBHOOKS = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations'
const TRUST_BUNDLES = clusterTrustBundles('v1beta1')
const TRUST_BUNDLE = clusterTrustBundlePath('v1beta1')
const VOLUME_REQUESTS = '/apis/certificates.k8s.io/v1beta1/namespaces/shop/podcertificaterequests'
const SHOP = '/api/v1/namespaces/shop'
const DRY = 'dryRun=All'
const MERGE = 'application/merge-patch+json'
const LABELS = { [POLICY_LABEL]: 'true' }

const skip = requireApiServer()
let server: ApiServer
let podUid = ''
const kubes = new Map<Identity, Kube>()
/** Base64 of a small request, and of one of more than 4 KiB. */
const requests = { small: '', large: '' }

let trustRoot = ''
const trustBundle = (name: string, signerName: string) => ({
  metadata: { name },
  spec: { signerName, trustBundle: trustRoot },
})

t.before(async () => {
  if (skip) return
  // With the controller manager: it aggregates the roles edit and admin.
  const flags = [...CLUSTER_TRUST_BUNDLE_FLAGS, ...POD_CERTIFICATE_FLAGS.slice(0, 2)]
  server = await startApiServer({ controllerManager: true, flags })
  const { kube } = server
  requests.small = await certificateRequest('spiffe://cluster.local/ns/shop/sa/cart')
  requests.large = await certificateRequest(`spiffe://cluster.local/${'x'.repeat(3_500)}`)
  await install(server)
  // No injector runs here, and none is needed to know who may write policy.
  await kube.delete(`/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/${INJECTOR_NAME}`)
  await createNamespace(kube, 'shop')
  await createNamespace(kube, 'elsewhere')
  await createNamespace(kube, 'people')
  await createServiceAccount(kube, 'shop', 'cart')
  const roles = { editor: 'edit', admin: 'admin', policy: 'postern-policy-editor' }
  for (const [account, role] of Object.entries(roles)) {
    await createServiceAccount(kube, 'people', account)
    await kube.create('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings', {
      metadata: { name: account },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
      subjects: [{ kind: 'ServiceAccount', name: account, namespace: 'people' }],
    })
  }
  await kube.create(BINDINGS, bindingOf('shop'))
  await createServiceAccount(kube, 'people', 'approver')
  await kube.create(BINDINGS, {
    metadata: { name: 'approver' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'postern-serving-approver' },
    subjects: [{ kind: 'ServiceAccount', name: 'approver', namespace: 'people' }],
  })
  await kube.create(CSRS, request({ name: SERVING }, { signerName: SERVING_SIGNER }))
  podUid = await createPod(kube, 'shop', 'cart-0', 'cart')
  const siblingUid = await createPod(kube, 'shop', 'cart-1', 'cart')
  const strangerUid = await createPod(kube, 'elsewhere', 'other', 'default')
  await kube.create(systemPath('secrets'), { metadata: { name: CA_SECRET } })
  await kube.create(systemPath('secrets'), { metadata: { name: 'other' } })
  await kube.create(systemPath('configmaps'), { metadata: { name: TRUST_CONFIGMAP } })
  await kube.create(systemPath('configmaps'), { metadata: { name: CA_CONFIGMAP } })
  await kube.create(systemPath('configmaps'), { metadata: { name: REVOCATIONS_CONFIGMAP } })
  await kube.create(systemPath('configmaps'), { metadata: { name: PARTNERS_CONFIGMAP } })
  await kube.create(systemPath('configmaps'), { metadata: { name: 'other' } })
  trustRoot = (await testAuthority('cluster.local')).root
  await kube.create(TRUST_BUNDLES, trustBundle(CLUSTER_TRUST_BUNDLE, WORKLOAD_SIGNER))
  await kube.create(`${SHOP}/configmaps`, { metadata: { name: 'plain' } })
  await kube.create(`${SHOP}/configmaps`, { metadata: { name: 'policy', labels: LABELS } })

  const bound = (name: string, uid: string) => ({ pod: { name, uid } })
  const tokens: Record<Exclude<Identity, 'anonymous'>, string> = {
    pod: await server.tokenFor('shop', 'cart', bound('cart-0', podUid)),
    sibling: await server.tokenFor('shop', 'cart', bound('cart-1', siblingUid)),
    unbound: await server.tokenFor('shop', 'cart'),
    stranger: await server.tokenFor('elsewhere', 'default', bound('other', strangerUid)),
    injector: await server.tokenFor(SYSTEM_NAMESPACE, INJECTOR_NAME),
    editor: await server.tokenFor('people', 'editor'),
    admin: await server.tokenFor('people', 'admin'),
    policyEditor: await server.tokenFor('people', 'policy'),
    servingApprover: await server.tokenFor('people', 'approver'),
  }
  for (const identity of ACCOUNTS) kubes.set(identity, connectKube(server.endpointFor(tokens[identity])))
  kubes.set('anonymous', connectKube({ server: server.serverUrl, ca: server.ca }))
  const plain = create(`${SHOP}/configmaps`, () => ({ metadata: { name: 'new' } }))
  await untilAllowed(() => plain(kubeOf('admin')))
  await untilRefused(() => kubeOf('pod').create(`${CSRS}?${DRY}`, request({ name: 'any' })))
  await kubeOf('pod').create(CSRS, request())
  // Without NodeRestriction, which would want the pod on the node.
  using anybody = asAnybody(server.endpoint)
  const kubelet = { username: 'system:node:node-1', groups: ['system:nodes'], extra: {} }
  const asked = await anybody.create(VOLUME_REQUESTS, volumeRequest(), kubelet)
  if (asked.kind === 'refused') throw new Error(asked.message)
})

t.teardown(async () => {
  for (const kube of kubes.values()) kube[Symbol.dispose]()
  await server?.[Symbol.asyncDispose]()
})

const kubeOf = (identity: Identity): Kube => {
  const kube = kubes.get(identity)
  if (!kube) throw new Error(`no client for ${identity}`)
  return kube
}

type Metadata = Readonly<Record<string, unknown>>

const request = (metadata: Metadata = {}, spec: object = {}) => ({
  metadata: { name: csrName(podUid, 0), ...metadata },
  spec: {
    signerName: WORKLOAD_SIGNER,
    request: requests.small,
    usages: ['digital signature', 'server auth', 'client auth'],
    ...spec,
  },
})

const ask = (metadata?: Metadata, spec?: object) => (kube: Kube) =>
  kube.create<object>(`${CSRS}?${DRY}`, request({ name: csrName(podUid, 1), ...metadata }, spec))

function bindingOf(
  namespace: string,
  group = `system:serviceaccounts:${namespace}`,
  role: string = WORKLOAD_ROLE,
) {
  return {
    metadata: { name: `${WORKLOAD_ROLE}:${namespace}` },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: group }],
  }
}

/** Puts the administrator's view of the request back, with a change. */
const changeRequest = (subresource: string, status: object, name?: string) => async (kube: Kube) => {
  const path = `${CSRS}/${name ?? csrName(podUid, 0)}`
  const current = await server.kube.get<object>(path)
  await kube.replace(`${path}/${subresource}?${DRY}`, { ...current, status })
}

const condition = (type: string) => ({
  conditions: [{ type, status: 'True', reason: 'Test', message: 'a test' }],
})

const patch = (path: string, body: object) => (kube: Kube) => kube.patch(`${path}?${DRY}`, MERGE, body)
const remove = (path: string) => (kube: Kube) => kube.delete(`${path}?${DRY}`)
const read = (path: string) => (kube: Kube) => kube.get(path)
const create = (path: string, body: () => object) => (kube: Kube) => kube.create(`${path}?${DRY}`, body())

const watch =
  (path: string, query = '') =>
  async (kube: Kube) => {
    const response = await kube.stream(
      `${path}?watch=1&timeoutSeconds=1${query}`,
      AbortSignal.timeout(10_000),
    )
    response.destroy()
  }

const owner = { apiVersion: 'v1', kind: 'Pod', name: 'cart-0', uid: 'ba3f6c0e-0000-4000-8000-000000000000' }

/** What the kubelet of its node would send. */
const volumeRequest = () => ({
  apiVersion: 'certificates.k8s.io/v1beta1',
  kind: 'PodCertificateRequest',
  metadata: { name: 'volume', namespace: 'shop' },
  spec: {
    signerName: WORKLOAD_SIGNER,
    podName: 'cart-0',
    podUID: podUid,
    serviceAccountName: 'cart',
    serviceAccountUID: 'any',
    nodeName: 'node-1',
    nodeUID: 'any',
    stubPKCS10Request: kubeletStub(newKeys()),
  },
})

const answerVolumeRequest = async (kube: Kube) => {
  const path = `${VOLUME_REQUESTS}/volume`
  const current = await server.kube.get<object>(path)
  const denied = { type: 'Denied', status: 'True', reason: 'Test', message: 'a test' }
  const conditions = [{ ...denied, lastTransitionTime: '2030-01-01T00:00:00Z' }]
  await kube.replace(`${path}/status?${DRY}`, { ...current, status: { conditions } })
}

type Row = readonly [act: string, attempt: (kube: Kube) => Promise<unknown>, may: readonly Identity[]]

const CERTIFICATES: readonly Row[] = [
  ['request a certificate under a name of the pod shop/cart-0', ask(), ['pod']],
  ['use a ninth name', kube => ask({ name: csrName(podUid, 8) })(kube), []],
  ['use a name of its own choice', ask({ name: 'mine' }), []],
  [
    'let the API server choose the name',
    kube => ask({ name: undefined, generateName: `postern-${podUid}-` })(kube),
    [],
  ],
  ['attach a label', ask({ labels: { a: 'b' } }), []],
  ['attach an annotation', ask({ annotations: { a: 'b' } }), []],
  ['attach a finalizer', ask({ finalizers: ['example.com/stay'] }), []],
  ['attach an owner', ask({ ownerReferences: [owner] }), []],
  ['ask with more than 4 KiB', kube => ask({}, { request: requests.large })(kube), []],
  [
    'ask the signer of API clients',
    ask({}, { signerName: 'kubernetes.io/kube-apiserver-client', usages: ['client auth'] }),
    [],
  ],
  ['ask for a serving certificate', ask({}, { signerName: SERVING_SIGNER }), []],
  [
    'read a request whose name it knows',
    kube => read(`${CSRS}/${csrName(podUid, 0)}`)(kube),
    [...WORKLOADS, 'injector', 'servingApprover'],
  ],
  ['list requests', read(CSRS), ['injector', 'servingApprover']],
  ['watch requests', watch(CSRS), ['injector', 'servingApprover']],
  ['delete a request', kube => remove(`${CSRS}/${csrName(podUid, 0)}`)(kube), ['injector']],
  [
    'edit a request',
    kube => patch(`${CSRS}/${csrName(podUid, 0)}`, { metadata: { labels: { a: 'b' } } })(kube),
    [],
  ],
  ['approve a request', changeRequest('approval', condition('Approved')), ['injector']],
  ['deny a request', changeRequest('approval', condition('Denied')), ['injector']],
  ['mark a request failed', changeRequest('status', condition('Failed')), ['injector']],
  [
    'approve a request for a serving certificate',
    changeRequest('approval', condition('Approved'), SERVING),
    ['servingApprover'],
  ],
  [
    'issue a serving certificate',
    kube => changeRequest('status', { certificate: btoa(server.ca) }, SERVING)(kube),
    ['injector'],
  ],
  ['ask for a certificate in a volume of the pod shop/cart-0', create(VOLUME_REQUESTS, volumeRequest), []],
  ['list requests for certificates in volumes', read(podCertificateRequests('v1beta1')), ['injector']],
  ['answer one', answerVolumeRequest, ['injector']],
]

const POLICY: readonly Row[] = [
  [
    'create a ConfigMap without the label',
    create(`${SHOP}/configmaps`, () => ({ metadata: { name: 'new' } })),
    ['editor', 'admin', 'policyEditor'],
  ],
  [
    'create a policy',
    create(`${SHOP}/configmaps`, () => ({ metadata: { name: 'new', labels: LABELS } })),
    ['policyEditor'],
  ],
  [
    'make a ConfigMap a policy',
    patch(`${SHOP}/configmaps/plain`, { metadata: { labels: LABELS } }),
    ['policyEditor'],
  ],
  ['change a policy', patch(`${SHOP}/configmaps/policy`, { data: { a: 'b' } }), ['policyEditor']],
  [
    'take the label off a policy',
    patch(`${SHOP}/configmaps/policy`, { metadata: { labels: { [POLICY_LABEL]: null } } }),
    ['policyEditor'],
  ],
  ['delete a policy', remove(`${SHOP}/configmaps/policy`), ['policyEditor']],
  ['delete all ConfigMaps at once', remove(`${SHOP}/configmaps`), []],
  [
    'write a mesh-wide policy',
    create(systemPath('configmaps'), () => ({ metadata: { name: 'new', labels: LABELS } })),
    [],
  ],
  [
    'grant itself the right to policy',
    create('/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings', () => ({
      ...bindingOf('shop', undefined, 'postern-policy-editor'),
      metadata: { name: 'new' },
    })),
    [],
  ],
]

const TRUST: readonly Row[] = [
  ['read the CA’s key', read(systemPath(`secrets/${CA_SECRET}`)), ['injector']],
  [
    'replace the CA’s key',
    kube => kube.replace(systemPath(`secrets/${CA_SECRET}?${DRY}`), { metadata: { name: CA_SECRET } }),
    ['injector'],
  ],
  ['delete the CA’s key', remove(systemPath(`secrets/${CA_SECRET}`)), []],
  [
    'watch the CA’s key',
    watch(systemPath('secrets'), `&fieldSelector=metadata.name%3D${CA_SECRET}`),
    ['injector'],
  ],
  [
    'ask for another root',
    patch(systemPath(`secrets/${CA_SECRET}`), {
      metadata: { annotations: { [`${CA_REQUEST_PREFIX}1`]: '{}' } },
    }),
    [],
  ],
  ['read the CA’s status', read(systemPath(`configmaps/${CA_CONFIGMAP}`)), ['injector']],
  [
    'change the CA’s status',
    patch(systemPath(`configmaps/${CA_CONFIGMAP}`), { data: { a: 'b' } }),
    ['injector'],
  ],
  ['read another Secret of the injector’s namespace', read(systemPath('secrets/other')), []],
  ['list the Secrets of the injector’s namespace', read(systemPath('secrets')), []],
  ['read the trust bundle', read(systemPath(`configmaps/${TRUST_CONFIGMAP}`)), ACCOUNTS],
  [
    'change the trust bundle',
    patch(systemPath(`configmaps/${TRUST_CONFIGMAP}`), { data: { a: 'b' } }),
    ['injector'],
  ],
  [
    'change another ConfigMap of the injector’s namespace',
    patch(systemPath('configmaps/other'), { data: { a: 'b' } }),
    [],
  ],
  ['read the ClusterTrustBundle', read(TRUST_BUNDLE), ACCOUNTS],
  [
    'change the ClusterTrustBundle',
    async kube => {
      const present = await server.kube.get<{ metadata: object }>(TRUST_BUNDLE)
      const metadata = { ...present.metadata, annotations: { a: 'b' } }
      await kube.replace(`${TRUST_BUNDLE}?${DRY}`, { ...present, metadata })
    },
    ['injector'],
  ],
  ['delete the ClusterTrustBundle', remove(TRUST_BUNDLE), []],
  [
    'create a ClusterTrustBundle of our signer',
    create(TRUST_BUNDLES, () => trustBundle('postern.dev:workload:new', WORKLOAD_SIGNER)),
    ['injector'],
  ],
  [
    'create a ClusterTrustBundle of another signer',
    create(TRUST_BUNDLES, () => trustBundle('example.com:signer:new', 'example.com/signer')),
    [],
  ],
]

const REVOCATION: readonly Row[] = [
  [
    'revoke somebody, or lift it',
    patch(systemPath(`configmaps/${REVOCATIONS_CONFIGMAP}`), { data: { 'revocations.json': '[]' } }),
    [],
  ],
  ['lift everything', remove(systemPath(`configmaps/${REVOCATIONS_CONFIGMAP}`)), []],
  ['read who is revoked', read(systemPath(`configmaps/${REVOCATIONS_CONFIGMAP}`)), ['injector']],
]

const FEDERATION: readonly Row[] = [
  [
    'name a partner',
    create(systemPath('configmaps'), () => ({
      metadata: { name: 'new', labels: { [FEDERATION_LABEL]: 'true' } },
    })),
    [],
  ],
  [
    'name a partner in another namespace',
    create(`${SHOP}/configmaps`, () => ({
      metadata: { name: 'new', labels: { [FEDERATION_LABEL]: 'true' } },
    })),
    [],
  ],
  [
    'change what was fetched of partners',
    patch(systemPath(`configmaps/${PARTNERS_CONFIGMAP}`), { data: { a: 'b' } }),
    ['injector'],
  ],
  ['read what was fetched of partners', read(systemPath(`configmaps/${PARTNERS_CONFIGMAP}`)), ['injector']],
]

const WORKLOADS_OF_A_NAMESPACE: readonly Row[] = [
  [
    'create a pod that runs as any service account of shop',
    create(`${SHOP}/pods`, () => ({
      metadata: { name: 'new' },
      spec: { serviceAccountName: 'cart', containers: [{ name: 'app', image: 'none' }] },
    })),
    ['editor', 'admin'],
  ],
  [
    'make a token of any service account of shop',
    create(`${SHOP}/serviceaccounts/cart/token`, () => ({
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {},
    })),
    ['editor', 'admin'],
  ],
]

const INJECTOR: readonly Row[] = [
  ['read pods everywhere', read('/api/v1/pods'), ['injector']],
  [
    'change its own webhook',
    patch(`${WEBHOOKS}/${INJECTOR_NAME}`, { metadata: { labels: { a: 'b' } } }),
    ['injector'],
  ],
  ['delete its webhook', remove(`${WEBHOOKS}/${INJECTOR_NAME}`), []],
  ['create a webhook', create(WEBHOOKS, () => ({ metadata: { name: 'new' } })), []],
  ['let a namespace request certificates', create(BINDINGS, () => bindingOf('elsewhere')), ['injector']],
  [
    'let another namespace in under this one’s name',
    create(BINDINGS, () => bindingOf('elsewhere', 'system:serviceaccounts:shop')),
    [],
  ],
  [
    'let everybody request certificates',
    create(BINDINGS, () => bindingOf('elsewhere', 'system:authenticated')),
    [],
  ],
  ['bind cluster-admin', create(BINDINGS, () => bindingOf('elsewhere', undefined, 'cluster-admin')), []],
  ['delete a binding of ours', remove(`${BINDINGS}/${WORKLOAD_ROLE}:shop`), ['injector']],
  ['delete the binding of cluster administrators', remove(`${BINDINGS}/cluster-admin`), []],
  ['delete the binding of the injector', remove(`${BINDINGS}/${INJECTOR_NAME}`), []],
  [
    'change admission policy',
    remove('/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/postern-requests'),
    [],
  ],
  [
    'create a pod in another namespace',
    create('/api/v1/namespaces/elsewhere/pods', () => ({
      metadata: { name: 'new' },
      spec: { containers: [{ name: 'app', image: 'none' }] },
    })),
    [],
  ],
]

const TABLE: Readonly<Record<string, readonly Row[]>> = {
  'Certificate requests': CERTIFICATES,
  Policy: POLICY,
  'The CA and the trust bundle': TRUST,
  Revocation: REVOCATION,
  Partners: FEDERATION,
  'Workloads of a namespace': WORKLOADS_OF_A_NAMESPACE,
  'What the injector works with': INJECTOR,
}

const isIdentity = (name: string): name is Identity => Object.hasOwn(IDENTITIES, name)
const EVERYBODY = Object.keys(IDENTITIES).filter(isIdentity)

for (const [act, attempt, may] of Object.values(TABLE).flat())
  t.test(`to ${act}: ${may.length === 0 ? 'nobody' : may.join(', ')}`, { skip }, async t => {
    const results: Record<string, string> = {}
    for (const identity of EVERYBODY) {
      const result = await outcome(() => attempt(kubeOf(identity)))
      results[identity] = result
    }
    const allowed = EVERYBODY.filter(identity => results[identity] === 'allowed')
    t.same(
      allowed,
      EVERYBODY.filter(identity => may.includes(identity)),
      { results },
    )
  })

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

/** The tables of the page as it should be. */
function page(): string[] {
  const identities = EVERYBODY.map(name => line([`\`${name}\``, IDENTITIES[name]]))
  const acts = Object.entries(TABLE).flatMap(([title, rows]) => [
    `## ${title}`,
    line(['to', ...EVERYBODY.map(name => `\`${name}\``)]),
    line(['---', ...EVERYBODY.map(() => ':-:')]),
    ...rows.map(([act, , may]) => line([act, ...EVERYBODY.map(name => (may.includes(name) ? 'may' : '–'))])),
  ])
  return [line(['identity', 'who that is']), line(['---', '---']), ...identities, ...acts]
}

t.test('docs/identities.md shows what is tried here', async t => {
  const text = await readFile(new URL('../../docs/identities.md', import.meta.url), 'utf8')
  t.same(
    text.split('\n').filter(line => /^(\||## )/.test(line)),
    page(),
  )
})
