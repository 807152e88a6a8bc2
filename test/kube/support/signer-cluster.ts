// A real API server with the manifests installed, the built-in CA, the signer's controller running with the injector's
// rights and no others, and pods that ask for certificates with their own tokens.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import { type AuthorityKeeper, loadOrCreateAuthority } from '../../../injector/ca/keeper.ts'
import {
  createSigner,
  type SignerController,
  type SignerSettings,
} from '../../../injector/signer/controller.ts'
import type { SignerObserver } from '../../../injector/signer/metrics.ts'
import { CSR_PATH } from '../../../injector/signer/objects.ts'
import { systemClock } from '../../../shared/clock.ts'
import { connectKube, type Kube } from '../../../shared/kube/rest.ts'
import { live } from '../../../shared/live.ts'
import { createLogger } from '../../../shared/log.ts'
import { createRegistry } from '../../../shared/metrics.ts'
import {
  csrName,
  INJECTOR_NAME,
  SYSTEM_NAMESPACE,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../../shared/names.ts'
import { revocationCheck } from '../../../shared/revocation.ts'
import { type ApiServer, type ApiServerOptions, startApiServer } from '../../support/api-server.ts'
import { REVOKED } from '../../vectors/csr/cases.ts'
import { install } from './installation.ts'

export const TRUST_DOMAIN = 'cluster.local'
export const NODE = 'node-1'

/** What the injector does where a namespace has injected pods, and the node that tokens are bound to. */
const BESIDE_THE_MANIFESTS = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "${WORKLOAD_ROLE}:shop"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ${WORKLOAD_ROLE}}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:shop"}]
---
apiVersion: v1
kind: Node
metadata: {name: ${NODE}}
`

export type SignerCluster = AsyncDisposable & {
  readonly server: ApiServer
  readonly keeper: AuthorityKeeper
  readonly denied: string[]
  /** Another replica's controller, not running. */
  controller(settings?: Partial<SignerSettings>, kube?: Kube): SignerController
  /** With the injector's rights: what controllers use where nothing else is said. */
  readonly injectorKube: Kube
  /** A client with a token of the service account, bound to the pod if one is given. */
  clientOf(serviceAccount: string, pod?: V1Pod): Promise<Kube>
}

export async function startSignerCluster(options: ApiServerOptions = {}): Promise<SignerCluster> {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer(options))
  await install(server)
  await server.kube.create('/api/v1/namespaces', { metadata: { name: 'shop' } })
  for (const name of ['cart', 'admin', 'revoked']) {
    await server.kube.create('/api/v1/namespaces/shop/serviceaccounts', { metadata: { name } })
  }
  const applied = await server.kubectl(['apply', '-f', '-'], BESIDE_THE_MANIFESTS)
  if (applied.code !== 0) throw new Error(applied.stderr)

  const log = createLogger('test', 'error')
  const stop = new AbortController()
  undo.defer(() => stop.abort())
  const context = { kube: server.kube, clock: systemClock, log, registry: createRegistry() }
  const place = { namespace: SYSTEM_NAMESPACE, trustDomain: TRUST_DOMAIN }
  const keeper = await loadOrCreateAuthority(context, place, stop.signal)
  const signerToken = await server.tokenFor(SYSTEM_NAMESPACE, INJECTOR_NAME)
  const kube = undo.use(connectKube(server.endpointFor(signerToken)))
  const denied: string[] = []
  const ignore = () => undefined
  const observer: SignerObserver = {
    approved: ignore,
    denied: rule => denied.push(rule),
    issued: ignore,
    failed: ignore,
    retried: ignore,
    podCertificate: ignore,
  }
  const clients: Kube[] = []
  undo.defer(() => {
    for (const client of clients) client[Symbol.dispose]()
  })
  const lifetime = undo.move()
  return {
    server,
    keeper,
    denied,
    injectorKube: kube,
    controller: (settings, own = kube) =>
      createSigner({
        kube: own,
        clock: systemClock,
        log,
        random: Math.random,
        authority: keeper.authority,
        observer,
        revoked: live(revocationCheck(REVOKED)),
        servicesOf: pod => (/^cart-\d/.test(pod.metadata?.name ?? '') ? ['cart'] : []),
        settings: {
          signerName: WORKLOAD_SIGNER,
          trustDomain: TRUST_DOMAIN,
          maxLeafLifetimeSeconds: 3600,
          maxServingLifetimeSeconds: 30 * 86_400,
          clusterDomain: 'cluster.local',
          cleanupAfterMs: 300_000,
          ...settings,
        },
      }),
    clientOf: async (serviceAccount, pod) => {
      const { name = '', uid = '' } = pod?.metadata ?? {}
      const token = await server.tokenFor('shop', serviceAccount, pod && { pod: { name, uid } })
      const client = connectKube(server.endpointFor(token))
      clients.push(client)
      return client
    },
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

/** A pod of `shop` on the node, as the scheduler leaves it. */
export const createPod = (kube: Kube, name: string, serviceAccountName = 'cart'): Promise<V1Pod> =>
  kube.create<V1Pod>('/api/v1/namespaces/shop/pods', {
    metadata: { name },
    spec: { serviceAccountName, nodeName: NODE, containers: [{ name: 'app', image: 'none' }] },
  })

/** Creates a request of the pod with this PEM. */
export function submit(
  kube: Kube,
  pod: V1Pod,
  pem: string,
  { name = csrName(pod.metadata?.uid ?? '', 0) }: { readonly name?: string } = {},
): Promise<V1CertificateSigningRequest> {
  return kube.create<V1CertificateSigningRequest>(CSR_PATH, {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name },
    spec: {
      request: Buffer.from(pem).toString('base64'),
      signerName: WORKLOAD_SIGNER,
      usages: ['digital signature', 'server auth', 'client auth'],
      expirationSeconds: 600,
    },
  })
}

const PATIENCE_MS = 20_000
const POLL_MS = 50

/** Polls until `read` gives something, as a sidecar does. */
export async function eventually<T>(read: () => Promise<T | undefined>, what: string): Promise<T> {
  const end = Date.now() + PATIENCE_MS
  while (Date.now() < end) {
    const value = await read()
    if (value !== undefined) return value
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`${what}: not within ${PATIENCE_MS} ms`)
}

/** The request once it has a certificate or a condition that says why not. */
export const answered = (kube: Kube, { metadata }: V1CertificateSigningRequest) =>
  eventually(async () => {
    const object = await kube.get<V1CertificateSigningRequest>(
      `${CSR_PATH}/${encodeURIComponent(metadata?.name ?? '')}`,
    )
    const { certificate, conditions = [] } = object.status ?? {}
    return certificate || conditions.some(({ type }) => type !== 'Approved') ? object : undefined
  }, `an answer to ${metadata?.name}`)
