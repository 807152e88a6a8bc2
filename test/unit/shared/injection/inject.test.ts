import type { V1Container, V1Pod, V1PodSpec } from '@kubernetes/client-node'
import t from 'tap'
import { inject } from '../../../../shared/injection/inject.ts'
import {
  CONTEXT,
  containerOf,
  injectInto,
  type PodParts,
  patched,
  pod,
  settingsOf,
} from '../../../support/pods.ts'

const fromNamespace = { ...CONTEXT, optIn: 'namespace' } as const
const silent = (parts: PodParts = {}): V1Pod => {
  const { metadata, ...rest } = pod(parts)
  return { ...rest, metadata: { ...metadata, annotations: parts.annotations ?? {} } }
}

t.test('a pod gets the init container first, the sidecar second, and both volumes', async t => {
  const app: V1Container = { name: 'migrate', image: 'migrate:1' }
  const after = injectInto(
    pod({ spec: { initContainers: [app], volumes: [{ name: 'data', emptyDir: {} }] } }),
  )
  t.strictSame(
    after.spec?.initContainers?.map(({ name }) => name),
    ['postern-init', 'postern-proxy', 'migrate'],
  )
  t.strictSame(
    after.spec?.volumes?.map(({ name }) => name),
    ['data', 'postern-state', 'postern-token'],
  )
  t.equal(after.metadata?.annotations?.['postern.dev/injected'], '0.1.0')
})

t.test('the init container is root with one capability and nothing else', async t => {
  const init = containerOf(
    injectInto(pod({ spec: { securityContext: { runAsNonRoot: true } } })),
    'postern-init',
  )
  t.strictSame(init.args, ['init'])
  t.strictSame(init.securityContext, {
    allowPrivilegeEscalation: false,
    privileged: false,
    readOnlyRootFilesystem: true,
    seccompProfile: { type: 'RuntimeDefault' },
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
    runAsUser: 0,
    runAsGroup: 0,
    runAsNonRoot: false,
  })
  t.strictSame(
    init.volumeMounts?.map(({ name }) => name),
    ['postern-state'],
  )
})

t.test('the sidecar is native, unprivileged and probed on its own ports', async t => {
  const after = injectInto(pod())
  const proxy = containerOf(after, 'postern-proxy')
  t.equal(proxy.restartPolicy, 'Always')
  t.match(proxy.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], add: undefined },
    runAsUser: 15_008,
    runAsGroup: 15_008,
    runAsNonRoot: true,
    seccompProfile: { type: 'RuntimeDefault' },
  })
  t.match(proxy.startupProbe?.httpGet, { port: 15_021, path: settingsOf(after).startupPath })
  t.match(proxy.readinessProbe?.httpGet, { port: 15_020, path: '/readyz' })
  t.match(proxy.livenessProbe?.httpGet, { port: 15_020, path: '/healthz' })
  t.strictSame(proxy.resources, { requests: { cpu: '50m', memory: '64Mi' }, limits: { memory: '256Mi' } })
})

t.test('the token is bound to the pod, an hour long, and mounted into the sidecar alone', async t => {
  const after = injectInto(pod({ spec: { initContainers: [{ name: 'migrate', image: 'm:1' }] } }))
  const volume = after.spec?.volumes?.find(({ name }) => name === 'postern-token')
  t.match(volume?.projected?.sources, [
    { serviceAccountToken: { path: 'token', expirationSeconds: 3600, audience: undefined } },
    { configMap: { name: 'kube-root-ca.crt' } },
  ])
  const holders = [...(after.spec?.initContainers ?? []), ...(after.spec?.containers ?? [])]
    .filter(({ volumeMounts }) => volumeMounts?.some(({ name }) => name === 'postern-token'))
    .map(({ name }) => name)
  t.strictSame(holders, ['postern-proxy'])
})

t.test('the state volume is memory, of a fixed size', async t => {
  const volume = injectInto(pod()).spec?.volumes?.find(({ name }) => name === 'postern-state')
  t.strictSame(volume?.emptyDir, { medium: 'Memory', sizeLimit: '8Mi' })
})

const volumes = [{ name: 'spiffe', csi: { driver: 'csi.spiffe.io', readOnly: true } }]
const sourced = (source: string, more: Record<string, string> = {}, volume = 'spiffe'): PodParts => ({
  annotations: {
    'postern.dev/certificate-source': source,
    'postern.dev/certificate-volume': volume,
    ...more,
  },
  spec: { volumes },
})

for (const [name, parts, expected] of [
  ['files', sourced('files'), { kind: 'files', key: 'tls.key', chain: 'tls.crt' }],
  [
    'one file',
    sourced('files', { 'postern.dev/certificate-files': 'bundle.pem' }),
    { kind: 'files', key: 'bundle.pem', chain: 'bundle.pem' },
  ],
  ['the Workload API', sourced('workload-api'), { kind: 'workload-api', socket: 'spire-agent.sock' }],
] as const)
  t.test(`a certificate from ${name}: the sidecar mounts the pod’s volume, read-only`, async t => {
    const after = injectInto(pod(parts))
    t.strictSame(settingsOf(after).certificateSource, expected)
    const mountPath = '/var/run/secrets/postern-certificate'
    const mounts = containerOf(after, 'postern-proxy').volumeMounts
    t.strictSame(mounts?.at(-1), { name: 'spiffe', mountPath, readOnly: true })
    t.notOk(containerOf(after, 'postern-init').volumeMounts?.some(mount => mount.name === 'spiffe'))
    t.strictSame(inject(after, 'shop', CONTEXT), { kind: 'patch', patch: [] }, 'and once is enough')
  })

t.test('a certificate from the kubelet: a volume of our own, which nobody else may mount', async t => {
  const annotations = {
    'postern.dev/certificate-source': 'pod-certificate',
    'postern.dev/certificate-lifetime': '1h',
  }
  const after = injectInto(pod({ annotations }))
  t.strictSame(settingsOf(after).certificateSource, {
    kind: 'files',
    key: 'credentials.pem',
    chain: 'credentials.pem',
  })
  const podCertificate = {
    signerName: 'postern.dev/workload',
    keyType: 'ECDSAP256',
    maxExpirationSeconds: 3600,
    credentialBundlePath: 'credentials.pem',
  }
  t.strictSame(after.spec?.volumes?.at(-1), {
    name: 'postern-certificate',
    projected: { defaultMode: 0o644, sources: [{ podCertificate }] },
  })
  const mountPath = '/var/run/secrets/postern-certificate'
  const mount = { name: 'postern-certificate', mountPath, readOnly: true }
  t.strictSame(containerOf(after, 'postern-proxy').volumeMounts?.at(-1), mount)
  t.strictSame(inject(after, 'shop', CONTEXT), { kind: 'patch', patch: [] }, 'and once is enough')
  const nosy: V1Container = { name: 'nosy', image: 'nosy:1', volumeMounts: [mount] }
  t.match(inject(pod({ annotations, spec: { containers: [nosy] } }), 'shop', CONTEXT), {
    kind: 'refuse',
    code: 'PSTN_INJECT_REFUSED',
    message: /container nosy: volume postern-certificate holds the sidecar’s key/,
  })
})

t.test('a sidecar that asks the API server mounts no volume of the pod', async t => {
  const after = injectInto(pod({ spec: { volumes } }))
  t.equal(settingsOf(after).certificateSource, undefined)
  t.equal(containerOf(after, 'postern-proxy').volumeMounts?.length, 2)
})

t.test('annotations reach the settings and the resources', async t => {
  const after = injectInto(
    pod({
      annotations: {
        'postern.dev/outbound': 'require',
        'postern.dev/udp': 'block',
        'postern.dev/skip-inbound-ports': '9100',
        'postern.dev/http-ports': '8080,80',
        'postern.dev/http2-ports': '50051',
        'postern.dev/drain-seconds': '5',
        'postern.dev/proxy-memory-limit': '512Mi',
      },
    }),
  )
  t.match(settingsOf(after), { outbound: 'require', udp: 'block', skipInboundPorts: [9100], drainSeconds: 5 })
  t.strictSame(settingsOf(after).protocols, { 80: 'http1', 8080: 'http1', 50051: 'http2' })
  t.notHas(settingsOf(injectInto(pod())), { protocols: {} }, 'nothing is declared where nothing is written')
  t.equal(containerOf(after, 'postern-proxy').resources?.limits?.memory, '512Mi')
})

const shapes: readonly { name: string; pod: V1Pod }[] = [
  { name: 'no init containers, no volumes', pod: pod() },
  {
    name: 'null lists',
    pod: JSON.parse(
      '{"metadata":{"annotations":{"postern.dev/inject":"enabled"}},"spec":{"containers":null,"initContainers":null,"volumes":null}}',
    ),
  },
  {
    name: 'a name instead of generateName',
    pod: { ...pod(), metadata: { name: 'web', annotations: { 'postern.dev/inject': 'enabled' } } },
  },
  { name: 'annotations with slashes and tildes', pod: pod({ annotations: { 'a.b/c~d': 'x' } }) },
]
for (const { name, pod } of shapes)
  t.test(`a pod with ${name} is injected`, async t => {
    t.equal(containerOf(injectInto(pod), 'postern-proxy').name, 'postern-proxy')
  })

t.test('a pod without annotations is injected through its namespace', async t => {
  const bare: V1Pod = { metadata: {}, spec: { containers: [{ name: 'app', image: 'a:1' }] } }
  const after = patched(bare, inject(bare, 'shop', fromNamespace))
  t.strictSame(after.metadata?.annotations, { 'postern.dev/injected': '0.1.0' })
})

const skipped: readonly { name: string; pod: V1Pod; namespace?: string; byPod?: boolean; reason: RegExp }[] =
  [
    {
      name: 'disabled wins over the namespace',
      pod: pod({ annotations: { 'postern.dev/inject': 'disabled' } }),
      reason: /disabled/,
    },
    {
      name: 'hostNetwork in an opted-in namespace',
      pod: silent({ spec: { hostNetwork: true } }),
      reason: /spec\.hostNetwork/,
    },
    {
      name: 'Windows in an opted-in namespace',
      pod: silent({ spec: { os: { name: 'windows' } } }),
      reason: /spec\.os/,
    },
    {
      name: 'a Windows node selector',
      pod: silent({ spec: { nodeSelector: { 'kubernetes.io/os': 'windows' } } }),
      reason: /spec\.os/,
    },
    {
      name: 'a static pod',
      pod: silent({ annotations: { 'kubernetes.io/config.mirror': 'x' } }),
      reason: /static pod/,
    },
    { name: 'kube-system', pod: silent(), namespace: 'kube-system', reason: /kube-system/ },
    { name: 'our own namespace', pod: silent(), namespace: 'postern-system', reason: /postern-system/ },
    { name: 'a silent pod at the annotation entry', pod: silent(), byPod: true, reason: /does not opt in/ },
  ]
for (const { name, pod, namespace = 'shop', byPod = false, reason } of skipped)
  t.test(`skipped: ${name}`, async t => {
    t.match(inject(pod, namespace, byPod ? CONTEXT : fromNamespace), { kind: 'skip', reason })
  })

const container = (more: Partial<V1Container>): PodParts => ({ container: more })
const spec = (more: Partial<V1PodSpec>): PodParts => ({ spec: more })
const refused: readonly { name: string; parts: PodParts; message: RegExp; code?: string }[] = [
  {
    name: 'hostNetwork where the pod itself opted in',
    parts: spec({ hostNetwork: true }),
    message: /spec\.hostNetwork/,
  },
  {
    name: 'Windows where the pod itself opted in',
    parts: spec({ os: { name: 'windows' } }),
    message: /spec\.os/,
  },
  {
    name: 'shareProcessNamespace',
    parts: spec({ shareProcessNamespace: true }),
    message: /key through \/proc/,
  },
  {
    name: 'a certificate volume that the pod does not have',
    parts: sourced('files', {}, 'elsewhere'),
    message: /certificate-volume: the pod has no volume elsewhere of its own; it has spiffe/,
  },
  {
    name: 'a certificate volume that is ours',
    parts: sourced('files', {}, 'postern-token'),
    message: /certificate-volume: the pod has no volume postern-token of its own/,
  },
  { name: 'hostPID', parts: spec({ hostPID: true }), message: /spec\.hostPID/ },
  {
    name: 'our uid for the pod',
    parts: spec({ securityContext: { runAsUser: 15_008 } }),
    message: /securityContext\.runAsUser: 15008/,
  },
  {
    name: 'our gid for the pod',
    parts: spec({ securityContext: { runAsGroup: 15_008 } }),
    message: /runAsGroup/,
  },
  { name: 'our gid as fsGroup', parts: spec({ securityContext: { fsGroup: 15_008 } }), message: /fsGroup/ },
  {
    name: 'our gid among the supplemental groups',
    parts: spec({ securityContext: { supplementalGroups: [1, 15_008] } }),
    message: /supplementalGroups/,
  },
  {
    name: 'our uid for a container',
    parts: container({ securityContext: { runAsUser: 15_008 } }),
    message: /container app: securityContext\.runAsUser/,
  },
  {
    name: 'our uid for an init container',
    parts: spec({ initContainers: [{ name: 'i', securityContext: { runAsUser: 15_008 } }] }),
    message: /container i: /,
  },
  ...[15_001, 15_006, 15_008, 15_020, 15_021].map(containerPort => ({
    name: `port ${containerPort}`,
    parts: container({ ports: [{ containerPort }] }),
    message: new RegExp(`container app: port ${containerPort}`),
  })),
  {
    name: 'a container of the sidecar’s name',
    parts: spec({ containers: [{ name: 'postern-proxy' }] }),
    message: /postern-proxy: the name is reserved/,
  },
  {
    name: 'an init container of our name',
    parts: spec({ initContainers: [{ name: 'postern-init' }] }),
    message: /postern-init: the name is reserved/,
  },
  {
    name: 'a volume of our name',
    parts: spec({ volumes: [{ name: 'postern-token', emptyDir: {} }] }),
    message: /volume postern-token: the name is reserved/,
  },
  {
    name: 'a mount of the state volume',
    parts: container({ volumeMounts: [{ name: 'postern-state', mountPath: '/x' }] }),
    message: /do not mount it/,
  },
  {
    name: 'the sidecar of another mesh',
    parts: spec({ initContainers: [{ name: 'istio-proxy', restartPolicy: 'Always' }] }),
    message: /another mesh/,
  },
  {
    name: 'an unknown annotation',
    parts: { annotations: { 'postern.dev/injct': 'x' } },
    message: /postern\.dev\/injct: unknown annotation/,
    code: 'PSTN_ANNOTATION_INVALID',
  },
  {
    name: 'a wrong value',
    parts: { annotations: { 'postern.dev/drain-seconds': '-1' } },
    message: /drain-seconds/,
    code: 'PSTN_ANNOTATION_INVALID',
  },
  {
    name: 'a port of two protocols',
    parts: { annotations: { 'postern.dev/http-ports': '80', 'postern.dev/http2-ports': '80' } },
    message: /http2-ports: 80 is in postern\.dev\/http-ports too/,
    code: 'PSTN_ANNOTATION_INVALID',
  },
  {
    name: 'a port of ours declared HTTP',
    parts: { annotations: { 'postern.dev/http-ports': '15008' } },
    message: /http-ports: "15008" is not valid/,
    code: 'PSTN_ANNOTATION_INVALID',
  },
  {
    name: 'a forged mark of injection',
    parts: { annotations: { 'postern.dev/injected': '1' } },
    message: /postern\.dev\/injected/,
    code: 'PSTN_ANNOTATION_INVALID',
  },
]
for (const { name, parts, message, code = 'PSTN_INJECT_REFUSED' } of refused)
  t.test(`refused: ${name}`, async t => {
    t.match(inject(pod(parts), 'shop', CONTEXT), { kind: 'refuse', code, message })
  })

t.test('one of our port numbers over UDP is no conflict', async t => {
  const parts = container({ ports: [{ containerPort: 15_008, protocol: 'UDP' }] })
  t.match(inject(pod(parts), 'shop', CONTEXT), { kind: 'patch' })
})

t.test('every conflict is named at once', async t => {
  const result = inject(pod({ spec: { hostPID: true, shareProcessNamespace: true } }), 'shop', CONTEXT)
  t.match(result, { message: /shareProcessNamespace.*hostPID/ })
})

// What the API server and other plugins do between our first call and the next.
const probed = pod({ container: { livenessProbe: { tcpSocket: { port: 80 } } } })
const change = (pod: V1Pod, edit: (spec: V1PodSpec) => Partial<V1PodSpec>): V1Pod => {
  const spec = pod.spec ?? { containers: [] }
  return { ...pod, spec: { ...spec, ...edit(spec) } }
}
const editProxy = (pod: V1Pod, edit: (proxy: V1Container) => Partial<V1Container>): V1Pod =>
  change(pod, ({ initContainers = [] }) => ({
    initContainers: initContainers.map(each =>
      each.name === 'postern-proxy' ? { ...each, ...edit(each) } : each,
    ),
  }))
const again = (pod: V1Pod) => inject(pod, 'shop', { ...CONTEXT, random: 'another' })
const token = { name: 'kube-api-access', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }

const leftAlone: readonly { name: string; pod: V1Pod }[] = [
  { name: 'nothing happened', pod: injectInto(probed) },
  {
    name: 'the application’s token was mounted into the sidecar',
    pod: change(
      editProxy(injectInto(probed), ({ volumeMounts = [] }) => ({ volumeMounts: [...volumeMounts, token] })),
      ({ volumes = [] }) => ({ volumes: [...volumes, { name: token.name }] }),
    ),
  },
  {
    name: 'a LimitRange gave the sidecar a CPU limit',
    pod: editProxy(injectInto(probed), ({ resources }) => ({
      resources: { ...resources, limits: { ...resources?.limits, cpu: '1' } },
    })),
  },
  {
    name: 'another webhook added a variable',
    pod: editProxy(injectInto(probed), ({ env = [] }) => ({
      env: [...env, { name: 'NODE_OPTIONS', value: '' }],
    })),
  },
  {
    name: 'the API server filled in defaults',
    pod: editProxy(injectInto(probed), () => ({
      terminationMessagePath: '/dev/termination-log',
      terminationMessagePolicy: 'File',
    })),
  },
]
for (const { name, pod } of leftAlone)
  t.test(`called again when ${name}, the patch is empty`, async t => {
    t.strictSame(again(pod), { kind: 'patch', patch: [] })
  })

t.test(
  'called again, a container that was added since gets its probes rewritten, under the same random path',
  async t => {
    const late = { name: 'late', image: 'l:1', livenessProbe: { tcpSocket: { port: 81 } } }
    const grown = change(injectInto(probed), ({ containers }) => ({ containers: [...containers, late] }))
    const after = patched(grown, again(grown))
    t.strictSame(
      settingsOf(after).probes.map(({ path }) => path),
      ['/app-health/Zm9vYmFy/app/livez', '/app-health/Zm9vYmFy/late/livez'],
    )
  },
)

t.test('called again, an init container that was put in front comes after ours', async t => {
  const grown = change(injectInto(pod()), ({ initContainers = [] }) => ({
    initContainers: [{ name: 'first', image: 'f:1' }, ...initContainers],
  }))
  const names = patched(grown, again(grown)).spec?.initContainers?.map(({ name }) => name)
  t.strictSame(names, ['postern-init', 'postern-proxy', 'first'])
})

t.test('called again, what was changed in the sidecar is put back', async t => {
  const bent = editProxy(injectInto(pod()), () => ({
    command: ['sleep'],
    securityContext: { privileged: true },
    image: 'other:1',
  }))
  t.strictSame(patched(bent, again(bent)), injectInto(pod()))
})

t.test('called again, a pod whose sidecar somebody removed is refused', async t => {
  const bare = change(injectInto(pod()), () => ({ initContainers: [], volumes: [] }))
  t.match(again(bare), { kind: 'refuse', code: 'PSTN_ANNOTATION_INVALID', message: /postern\.dev\/injected/ })
})
