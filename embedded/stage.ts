// Sets the demo's stage: the embedded cluster, the real injector, and three pods with real sidecars around small
// applications: `orders`, which `web` may call, and a `stranger`, which may not.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startInjector } from '../injector/app.ts'
import { parseSettings } from '../injector/config.ts'
import { systemClock } from '../shared/clock.ts'
import { connectKube } from '../shared/kube/rest.ts'
import { createLogger } from '../shared/log.ts'
import { INJECTOR_NAME, POLICY_LABEL, SYSTEM_NAMESPACE } from '../shared/names.ts'
import { VERSION } from '../shared/version.ts'
import { type EmbeddedCluster, startEmbeddedCluster } from './cluster/server.ts'
import type { KubeObject } from './cluster/store.ts'
import { type RunningPod, startPod } from './pods.ts'

/** What a test takes away, to see that the demo notices: the policy, or the right to approve requests. */
export const REMOVABLE = ['policy', 'approver'] as const
export type Removable = (typeof REMOVABLE)[number]

export type Stage = AsyncDisposable & {
  readonly cluster: EmbeddedCluster
  readonly web: RunningPod
  readonly orders: RunningPod
  readonly stranger: RunningPod
  /** What a client dials: the callers' captured dials to `orders`, and `orders` in plaintext. */
  readonly urls: { readonly web: string; readonly stranger: string; readonly plaintext: string }
  /** The service accounts that may call `orders`. */
  setAllowed(serviceAccounts: readonly string[]): Promise<void>
  setMode(mode: 'STRICT' | 'PERMISSIVE'): Promise<void>
}

const SHOP = 'shop'
const SERVICE = { address: '10.96.0.10', port: 80 }
const WEB = '127.1.0.2'
const ORDERS = '127.1.0.3'
const STRANGER = '127.1.0.4'
const APP_PORT = 8080
/** Open to everybody, as a health port is. */
const OPEN_PORT = 8081
/** Stand for redirects: what a pod's nftables rules would lead there. */
const TO_SERVICE = { port: 9080, destination: SERVICE }
const TO_ORDERS = { port: 18_081, destination: { address: ORDERS, port: OPEN_PORT } }
/** Renewal at a third to a half of what is left: a rotation every few seconds. */
const LEAF_SECONDS = 10
const INJECTOR_ADDRESS = '127.1.0.1'

export async function setStage(without: ReadonlySet<Removable>): Promise<Stage> {
  await using undo = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'postern-demo-'))
  undo.defer(() => rm(directory, { recursive: true, force: true }))
  const mayApprove = !without.has('approver')
  const cluster = undo.use(await startEmbeddedCluster({ mayApprove }))
  seed(cluster)

  const log = createLogger('injector', 'error')
  const tokenFile = join(directory, 'injector-token')
  await writeFile(tokenFile, cluster.access.issueToken(SYSTEM_NAMESPACE, INJECTOR_NAME), { mode: 0o600 })
  const settings = parseSettings(
    JSON.stringify({
      maxLeafLifetimeSeconds: LEAF_SECONDS,
      listenAddress: INJECTOR_ADDRESS,
      controlAddress: `${INJECTOR_ADDRESS}:15012`,
      adminPort: 0,
      prefixes: ['127.1.0.0/24', '10.96.0.0/16'],
    }),
    'demo',
  )
  const config = {
    ...settings,
    sidecarImage: 'postern/proxy',
    replica: 'demo',
    api: { server: cluster.url, tokenFile },
  }
  const kube = undo.use(connectKube(config.api))
  const ended = new AbortController()
  undo.defer(() => ended.abort())
  undo.use(
    await startInjector(
      { config, kube, log, clock: systemClock, random: Math.random, version: VERSION },
      ended.signal,
    ),
  )
  await webhookTrusted(cluster)

  const policies = policyWriter(cluster)
  if (!without.has('policy')) await policies.setAllowed(['web'])
  const injected = { namespace: SHOP, annotations: { 'postern.dev/inject': 'enabled' } }
  const caller = (name: string, address: string) =>
    startPod(cluster, directory, { ...injected, name, serviceAccount: name, address, outbound: [TO_SERVICE] })
  const app = { file: 'server.ts', args: [ORDERS, String(APP_PORT), String(OPEN_PORT)] }
  const orders = undo.use(
    await startPod(cluster, directory, {
      ...injected,
      name: 'orders',
      serviceAccount: 'orders',
      address: ORDERS,
      labels: { app: 'orders' },
      app,
      inbound: [TO_ORDERS],
    }),
  )
  publishEndpoint(cluster, orders)
  const web = undo.use(await caller('web', WEB))
  const stranger = undo.use(await caller('stranger', STRANGER))

  const stage = undo.move()
  return {
    cluster,
    web,
    orders,
    stranger,
    urls: {
      web: `http://${WEB}:${TO_SERVICE.port}`,
      stranger: `http://${STRANGER}:${TO_SERVICE.port}`,
      plaintext: `http://${ORDERS}:${TO_ORDERS.port}`,
    },
    ...policies,
    [Symbol.asyncDispose]: () => stage.disposeAsync(),
  }
}

function seed({ store }: EmbeddedCluster): void {
  const create = (resource: string, name: string, fields: object, namespace?: string) =>
    store.create(resource, { metadata: { name, ...(namespace && { namespace }) }, ...fields })
  for (const name of [SYSTEM_NAMESPACE, SHOP]) create('namespaces', name, {})
  create('nodes', 'demo', { status: { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }] } })
  const ports = [{ name: 'http', port: SERVICE.port, targetPort: APP_PORT, protocol: 'TCP' }]
  const spec = {
    selector: { app: 'orders' },
    clusterIP: SERVICE.address,
    clusterIPs: [SERVICE.address],
    type: 'ClusterIP',
    ports,
  }
  create('services', 'orders', { spec }, SHOP)
  const entry = (name: string) => ({
    name: `${name}.postern.dev`,
    clientConfig: { url: `https://${INJECTOR_ADDRESS}:9443/inject/${name}` },
  })
  create('mutatingwebhookconfigurations', INJECTOR_NAME, { webhooks: [entry('pod'), entry('namespace')] })
}

/** The endpoint controller's work. */
function publishEndpoint({ store }: EmbeddedCluster, { name, uid }: RunningPod): void {
  const endpoint = {
    addresses: [ORDERS],
    conditions: { ready: true },
    targetRef: { kind: 'Pod', namespace: SHOP, name, uid },
    nodeName: 'demo',
  }
  store.create('endpointslices', {
    metadata: { name: 'orders-1', namespace: SHOP, labels: { 'kubernetes.io/service-name': 'orders' } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: APP_PORT, protocol: 'TCP' }],
    endpoints: [endpoint],
  })
}

async function webhookTrusted({ store }: EmbeddedCluster): Promise<void> {
  type Webhooks = { webhooks: { clientConfig: { caBundle?: string } }[] }
  const trusted = () =>
    (
      store.get('mutatingwebhookconfigurations', undefined, INJECTOR_NAME) as KubeObject & Webhooks
    ).webhooks.every(({ clientConfig }) => clientConfig.caBundle)
  const deadline = Date.now() + 10_000
  while (!trusted()) {
    if (Date.now() > deadline) throw new Error('the injector did not publish its caBundle within 10 s')
    await delay(25)
  }
}

/** Policies as a user writes them: ConfigMaps with YAML. */
function policyWriter({ store }: EmbeddedCluster): Pick<Stage, 'setAllowed' | 'setMode'> {
  const write = async (name: string, lines: readonly string[]) => {
    const object = {
      metadata: { name, namespace: SHOP, labels: { [POLICY_LABEL]: 'true' } },
      data: { 'policy.yaml': lines.join('\n') },
    }
    const exists = store
      .list('configmaps')
      .some(({ metadata }) => metadata.name === name && metadata.namespace === SHOP)
    if (exists) store.replace('configmaps', object)
    else store.create('configmaps', object)
  }
  const head = (kind: string, name: string) => [
    'apiVersion: policy.postern.dev/v1',
    `kind: ${kind}`,
    `metadata: { name: ${name} }`,
    'spec:',
  ]
  return {
    setAllowed: serviceAccounts => {
      const open = `{ to: [{ operation: { ports: ["${OPEN_PORT}"] } }] }`
      const callers = `{ from: [{ source: { serviceAccounts: [${serviceAccounts.join(', ')}] } }] }`
      const rules = serviceAccounts.length > 0 ? [callers, open] : [open]
      return write('orders', [
        ...head('AuthorizationPolicy', 'orders-callers'),
        '  selector: { matchLabels: { app: orders } }',
        '  action: ALLOW',
        `  rules: [${rules.join(', ')}]`,
      ])
    },
    setMode: mode => write('mode', [...head('PeerAuthentication', 'mode'), `  mtls: { mode: ${mode} }`]),
  }
}
