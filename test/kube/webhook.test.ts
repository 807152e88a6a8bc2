// The webhook as the API server sees it: real configurations, real admission plugins around it, real kubectl.
import type {
  CoreV1EventList,
  V1EndpointSliceList,
  V1Namespace,
  V1Pod,
  V1ReplicaSet,
} from '@kubernetes/client-node'
import t from 'tap'
import { reduce } from '../../injector/directory/reduce.ts'
import { createWorld } from '../../injector/directory/world.ts'
import { whyNoPodCertificates } from '../../injector/podcertificates/offered.ts'
import { keepCaBundle } from '../../injector/webhook/ca-bundle.ts'
import { isApiServer } from '../../injector/webhook/callers.ts'
import { eventRecorder } from '../../injector/webhook/events.ts'
import type { InjectionReport } from '../../injector/webhook/pods.ts'
import { webhookRoutes } from '../../injector/webhook/routes.ts'
import { type ServingCertificate, serveWebhook } from '../../injector/webhook/server.ts'
import { systemClock } from '../../shared/clock.ts'
import { live } from '../../shared/live.ts'
import { createLogger } from '../../shared/log.ts'
import { type ApiServer, POD_CERTIFICATE_FLAGS, startApiServer } from '../support/api-server.ts'
import { createAuthority } from '../support/authority.ts'
import { WORLD_SETTINGS } from '../support/directory.ts'
import { NO_FEDERATION } from '../support/federation.ts'
import { CONTEXT, containerOf, pod, settingsOf } from '../support/pods.ts'
import { freePorts } from '../support/processes.ts'
import { requireApiServer } from '../support/requirements.ts'
import { webhookConfigurations } from './support/webhook-configurations.ts'

const SERVICE = 'postern-injector.postern-system.svc'
const log = createLogger('injector', 'error')
/** Loopback may not be published. */
const ADVERTISED = '192.0.2.1'

t.test('the webhook on a real API server', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const flags = ['--endpoint-reconciler-type=lease', `--advertise-address=${ADVERTISED}`]
  const api = undo.use(await startApiServer({ flags }))
  const stopped = new AbortController()

  const namespaces: Record<string, Record<string, string>> = {
    'postern-system': {},
    plain: {},
    meshed: { 'postern.dev/inject': 'enabled' },
    guarded: { 'postern.dev/inject': 'enabled', 'pod-security.kubernetes.io/enforce': 'baseline' },
  }
  for (const [name, labels] of Object.entries(namespaces)) await createNamespace(api, name, labels)

  const [port = 0] = await freePorts(1)
  const authority = await createAuthority('first')
  const issue = async (from = authority): Promise<ServingCertificate> => {
    const { cert, key } = await from.issue({ commonName: SERVICE, dns: [SERVICE] })
    return { chain: cert, key }
  }
  const serving = live(await issue())
  const roots = live<readonly string[]>([authority.cert])
  const bindings: string[] = []
  const reports: InjectionReport[] = []
  let bindingFailure: Error | undefined
  const context = { kube: api.kube, clock: systemClock, log, signal: stopped.signal }
  const event = eventRecorder({ ...context, instance: 'test' })
  const { mesh, sidecar, version } = CONTEXT
  const offer = { signerName: mesh.signerName, maxLeafLifetimeSeconds: 86_400 }
  const serve = () =>
    serveWebhook({
      port,
      host: '127.0.0.1',
      serving,
      log,
      isApiServer: () => false,
      routes: webhookRoutes(
        {
          settings: { mesh, sidecar, version },
          ensureBinding: async namespace => {
            if (bindingFailure) throw bindingFailure
            bindings.push(namespace)
          },
          whyNoPodCertificates: signal => whyNoPodCertificates(api.kube, offer, signal),
          report: report => {
            reports.push(report)
            event(report)
          },
        },
        NO_FEDERATION,
      ),
    })
  let server = await serve()
  undo.defer(() => server[Symbol.asyncDispose]())

  await installWebhooks(api, port)
  const keeping = keepCaBundle({ ...context, random: Math.random, roots }, stopped.signal)
  undo.defer(() => {
    stopped.abort()
    return keeping
  })

  const create = (namespace: string, body: V1Pod, query = ''): Promise<V1Pod> =>
    api.kube.create<V1Pod>(`/api/v1/namespaces/${namespace}/pods${query}`, {
      apiVersion: 'v1',
      kind: 'Pod',
      ...body,
      metadata: { ...body.metadata, namespace },
    })
  const silent = (annotations?: Record<string, string>): V1Pod => ({
    metadata: { generateName: 'web-', ...(annotations && { annotations }) },
    spec: { containers: [{ name: 'app', image: 'app:1' }] },
  })
  const sidecars = (pod: V1Pod) => pod.spec?.initContainers?.map(({ name }) => name) ?? []
  const OURS = ['postern-init', 'postern-proxy']

  await t.test('the kept caBundle makes the API server trust the webhook', async t => {
    await eventually(async () => {
      t.strictSame(sidecars(await create('plain', pod(), '?dryRun=All')), OURS)
    })
  })

  await t.test('an API server publishes its address where the webhook looks for it', async t => {
    await eventually(async () => {
      const path = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices'
      const { items } = await api.kube.get<V1EndpointSliceList>(path)
      const world = createWorld(WORLD_SETTINGS)
      reduce(world, { kind: 'list', resource: 'endpointslices', items })
      const known = isApiServer(world)
      if (!known(ADVERTISED)) throw new Error(`unknown: ${JSON.stringify(items)}`)
      t.notOk(known('192.0.2.2'))
    })
  })

  await t.test('pods of one namespace that come all at once are late, and not refused', async t => {
    const burst = Array.from({ length: 60 }, () => create('meshed', silent(), '?dryRun=All'))
    const made = await Promise.all(burst)
    t.ok(made.every(pod => sidecars(pod).length === OURS.length))
  })

  await t.test(
    'a pod that opts in by annotation comes back with a sidecar that the API server accepts',
    async t => {
      const probe = { httpGet: { port: 'web', path: '/healthz' }, timeoutSeconds: 2 }
      const created = await create(
        'plain',
        pod({ container: { ports: [{ name: 'web', containerPort: 8080 }], readinessProbe: probe } }),
      )
      t.strictSame(sidecars(created), OURS)
      t.match(settingsOf(created).probes, [{ target: { kind: 'http', port: 8080, path: '/healthz' } }])
      t.match(containerOf(created, 'app').readinessProbe, {
        httpGet: { port: 15_020, path: settingsOf(created).probes[0]?.path },
        timeoutSeconds: 2,
      })
      t.equal(created.metadata?.annotations?.['postern.dev/injected'], '0.1.0')
      t.ok(bindings.includes('plain'))
    },
  )

  await t.test('a pod of an opted-in namespace comes back with a sidecar', async t => {
    t.strictSame(sidecars(await create('meshed', silent())), OURS)
    t.ok(bindings.includes('meshed'))
  })

  await t.test('both at once inject once', async t => {
    reports.length = 0
    const created = await create('meshed', pod())
    t.strictSame(sidecars(created), OURS)
    t.strictSame(
      created.spec?.volumes?.map(({ name = '' }) => name.replace(/(?<=api-access)-.*$/, '')),
      ['kube-api-access', 'postern-state', 'postern-token'],
    )
    t.equal(reports.filter(({ outcome }) => outcome === 'injected').length, 1)
  })

  await t.test('disabled on the pod wins over its namespace', async t => {
    t.strictSame(sidecars(await create('meshed', silent({ 'postern.dev/inject': 'disabled' }))), [])
  })

  await t.test('a pod that says nothing in a plain namespace never reaches the webhook', async t => {
    const before = reports.length
    t.strictSame(sidecars(await create('plain', silent())), [])
    t.equal(reports.length, before)
  })

  await t.test('a pod with hostNetwork is skipped in an opted-in namespace, with a warning', async t => {
    const yaml = JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'agent', namespace: 'meshed' },
      spec: { hostNetwork: true, containers: [{ name: 'app', image: 'app:1' }] },
    })
    const { code, stderr } = await api.kubectl(['create', '-f', '-'], yaml)
    t.equal(code, 0)
    t.match(stderr, /Warning: PSTN_INJECT_SKIPPED: spec\.hostNetwork/)
  })

  await t.test('a pod that cannot be injected is refused with code, field and advice', async t => {
    await t.rejects(create('plain', pod({ spec: { hostPID: true } })), {
      status: 403,
      message: /pod\.postern\.dev.*denied the request: PSTN_INJECT_REFUSED: spec\.hostPID/s,
    })
  })

  await t.test(
    'a pod with certificate files comes back as the API server accepts it, and can be copied',
    async t => {
      const annotations = {
        'postern.dev/cert-files': 'app',
        'postern.dev/cert-files-env': 'SSL_CERT_FILE',
        'postern.dev/cert-files-hook': '8081/reload',
      }
      const created = await create('plain', pod({ annotations }))
      const path = '/var/run/secrets/postern.dev'
      const ours = ({ name }: { name: string }) => name === 'postern-cert-files'
      t.match(containerOf(created, 'app').volumeMounts?.filter(ours), [{ mountPath: path, readOnly: true }])
      t.match(containerOf(created, 'app').env, [{ name: 'SSL_CERT_FILE', value: `${path}/ca.crt` }])
      t.match(created.spec?.volumes?.filter(ours), [{ emptyDir: { medium: 'Memory', sizeLimit: '4Mi' } }])
      const { metadata, spec } = created
      const copy = await create('plain', {
        metadata: { generateName: 'copy-', annotations: metadata?.annotations ?? {} },
        ...(spec && { spec }),
      })
      t.strictSame(containerOf(copy, 'app'), containerOf(created, 'app'))
      const nobody = pod({ annotations: { 'postern.dev/cert-files': 'web' } })
      await t.rejects(create('plain', nobody), {
        message: /PSTN_INJECT_REFUSED: .*no container web of its own/s,
      })
    },
  )

  const sourced = () => pod({ annotations: { 'postern.dev/certificate-source': 'pod-certificate' } })

  await t.test(
    'a pod with its certificate in a volume is refused where no kubelet could get one',
    async t => {
      await t.rejects(create('plain', sourced()), {
        status: 403,
        message: /PSTN_INJECT_REFUSED: .*this cluster has no PodCertificateRequests/s,
      })
    },
  )

  await t.test('and comes back as the API server accepts it where one can', async t => {
    await api.stop()
    await api.start(POD_CERTIFICATE_FLAGS)
    bindings.length = 0
    const created = await eventually(() => create('plain', sourced()))
    t.match(
      created.spec?.volumes?.find(({ name }) => name === 'postern-certificate'),
      {
        projected: { sources: [{ podCertificate: { signerName: 'postern.dev/workload' } }] },
      },
    )
    t.match(settingsOf(created).certificateSource, { kind: 'files', key: 'credentials.pem' })
    t.strictSame(bindings, [], 'its namespace needs no right to ask')
    const { metadata, spec } = created
    const copy = await create('plain', {
      metadata: { generateName: 'copy-', annotations: metadata?.annotations ?? {} },
      ...(spec && { spec }),
    })
    t.strictSame(copy.spec?.volumes, created.spec?.volumes, 'and can be copied')
    await api.stop()
    await api.start()
    await eventually(() => create('plain', pod(), '?dryRun=All'))
  })

  await t.test('kubectl apply by server-side dry run makes no binding', async t => {
    bindings.length = 0
    const manifest = JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      ...pod(),
      metadata: { ...pod().metadata, name: 'dry', generateName: undefined, namespace: 'plain' },
    })
    const { code, stdout, stderr } = await api.kubectl(
      ['apply', '-f', '-', '--dry-run=server', '-o', 'json'],
      manifest,
    )
    t.equal(code, 0, stderr)
    t.strictSame(sidecars(JSON.parse(stdout)), OURS)
    t.strictSame(bindings, [])
  })

  await t.test('a pod whose namespace cannot be bound is refused, and says so', async t => {
    bindingFailure = new Error('bindings are forbidden')
    await t.rejects(create('plain', pod()), {
      status: 403,
      message: /PSTN_API_UNAVAILABLE: namespace plain could not be allowed.*bindings are forbidden/s,
    })
    bindingFailure = undefined
  })

  await t.test('an injected pod can be copied, and stays as it is', async t => {
    const created = await create('meshed', silent())
    const { metadata, spec } = created
    const copy = await create('meshed', {
      metadata: { generateName: 'copy-', annotations: metadata?.annotations ?? {} },
      ...(spec && { spec }),
    })
    const { nodeName: _n, ...rest } = copy.spec ?? { containers: [] }
    t.strictSame(rest, spec)
  })

  await t.test('PodSecurity baseline refuses the pod, naming our init container', async t => {
    await t.rejects(create('guarded', silent()), {
      message: /violates PodSecurity.*postern-init.*NET_ADMIN/s,
    })
  })

  await t.test('events stand on the controller of a pod, or on its namespace', async t => {
    const replicas = await createReplicaSet(api, 'meshed')
    const owner = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: replicas, controller: true }
    const owned = silent()
    await create('meshed', { ...owned, metadata: { ...owned.metadata, ownerReferences: [owner] } })
    await eventually(async () => {
      const { items } = await api.kube.get<CoreV1EventList>('/api/v1/namespaces/meshed/events')
      const seen = items.map(({ involvedObject, reason }) => `${involvedObject.kind} ${reason}`)
      t.ok(seen.includes('ReplicaSet Injected') && seen.includes('Namespace InjectionSkipped'), seen.join())
    })
    const { items } = await api.kube.get<CoreV1EventList>('/api/v1/namespaces/plain/events')
    const refused = items.filter(({ reason, type }) => reason === 'InjectionRefused' && type === 'Warning')
    t.match(refused.map(({ message }) => message).join('\n'), /^web-…: PSTN_INJECT_REFUSED: spec\.hostPID/m)
  })

  await t.test(
    'a policy ConfigMap that is wrong is refused with every place; one that is right gets in',
    async t => {
      const policy = (action: string) => ({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: {
          name: action.toLowerCase(),
          namespace: 'plain',
          labels: { 'postern.dev/policy': 'true' },
        },
        data: {
          'a.yaml': `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  action: ${action}\n  rules: [{to: [{operation: {ports: ["80"]}}]}]\n`,
        },
      })
      const path = '/api/v1/namespaces/plain/configmaps'
      await api.kube.create(path, policy('DENY'))
      await t.rejects(api.kube.create(path, policy('PERHAPS')), {
        status: 403,
        message: /PSTN_POLICY_INVALID: a\.yaml:5:\d+: spec\.action: /,
      })
    },
  )

  await t.test('an outside host that nobody could verify is refused with place and hint', async t => {
    const host = (name: string, tls: string) => ({
      metadata: { name, labels: { 'postern.dev/policy': 'true' } },
      data: {
        'host.yaml': `apiVersion: policy.postern.dev/v1\nkind: OutsideHost\nmetadata: {name: ${name}}\nspec:\n  host: api.partner.example\n  addresses: [203.0.113.7]\n  ports: [443]\n  tls: ${tls}\n`,
      },
    })
    const path = '/api/v1/namespaces/plain/configmaps'
    const bundle = JSON.stringify((await createAuthority('partner')).cert)
    await api.kube.create(path, host('good', `{mode: MUTUAL, caBundle: ${bundle}}`))
    await t.rejects(api.kube.create(path, host('silent', '{mode: MUTUAL}')), {
      status: 403,
      message: /PSTN_POLICY_INVALID: host\.yaml:8:\d+: spec\.tls: does not say whom to trust; write caBundle/,
    })
    await t.rejects(api.kube.create(path, host('public', '{mode: MUTUAL, publicRoots: true}')), {
      status: 403,
      message: /host\.yaml:8:\d+: spec\.tls\.publicRoots: .*any host of the public web; write caBundle/,
    })
    await t.rejects(api.kube.create(path, host('empty', '{mode: SIMPLE, caBundle: none}')), {
      status: 403,
      message: /spec\.tls\.caBundle: "none" is not valid; write 1 to 32 CA certificates in PEM/,
    })
  })

  await t.test('roots and serving certificate are replaced while it runs', async t => {
    const next = await createAuthority('second')
    roots.set([next.cert])
    serving.set(await issue(next))
    // New connections, so that nothing rests on a handshake of before.
    await server[Symbol.asyncDispose]()
    server = await serve()
    await eventually(async () => {
      t.strictSame(sidecars(await create('plain', pod(), '?dryRun=All')), OURS)
    })
  })

  await t.test('while the webhook is down, opted-out pods are created and opted-in ones refused', async t => {
    await server[Symbol.asyncDispose]()
    t.ok(await create('plain', silent()))
    t.ok(await create('meshed', silent({ 'postern.dev/inject': 'disabled' })))
    const clear = {
      status: 500,
      message: /failed calling webhook "(pod|namespace)\.postern\.dev".*connection refused/,
    }
    await t.rejects(create('plain', pod()), clear)
    await t.rejects(create('meshed', silent()), clear)
    server = await serve()
    t.strictSame(sidecars(await create('plain', pod())), OURS)
  })
})

async function createNamespace(api: ApiServer, name: string, labels: Record<string, string>): Promise<void> {
  await api.kube.create<V1Namespace>('/api/v1/namespaces', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels },
  })
  await api.kube.create(`/api/v1/namespaces/${name}/serviceaccounts`, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'default' },
  })
  await api.kube.create(`/api/v1/namespaces/${name}/serviceaccounts`, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'web' },
  })
}

/** The Service leads to this process: the API server resolves an ExternalName itself. */
async function installWebhooks(api: ApiServer, port: number): Promise<void> {
  await api.kube.create('/api/v1/namespaces/postern-system/services', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'postern-injector' },
    spec: { type: 'ExternalName', externalName: 'localhost', ports: [{ port: 443, targetPort: port }] },
  })
  for (const configuration of await webhookConfigurations(port)) {
    const plural = `${configuration.kind.toLowerCase()}s`
    await api.kube.create(`/apis/admissionregistration.k8s.io/v1/${plural}`, configuration)
  }
}

async function createReplicaSet(api: ApiServer, namespace: string): Promise<string> {
  const labels = { app: 'web' }
  const { metadata } = await api.kube.create<V1ReplicaSet>(
    `/apis/apps/v1/namespaces/${namespace}/replicasets`,
    {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { name: 'web' },
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: 'app', image: 'app:1' }] } },
      },
    },
  )
  return metadata?.uid ?? ''
}

/** Webhook configurations take a moment to reach the API server's own caches. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + 20_000; ; ) {
    try {
      return await attempt()
    } catch (thrown) {
      if (Date.now() > deadline) throw thrown
      await systemClock.sleep(200, new AbortController().signal)
    }
  }
}
