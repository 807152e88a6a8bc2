// Calls the mutating webhook for a new pod as the API server does: over TLS against the configuration's caBundle, with
// failurePolicy Fail. The two match conditions of our entries are spelled out here, since nothing evaluates CEL.
import { randomUUID } from 'node:crypto'
import { request } from 'node:https'
import { INJECT_KEY } from '../../shared/names.ts'
import type { User } from './access.ts'
import { jsonPatch, type Operation } from './patch.ts'
import { type KubeObject, Refusal, type Store } from './store.ts'

type Webhook = { name: string; clientConfig: { url?: string; caBundle?: string } }
type Answer = { response?: { allowed?: boolean; patch?: string; status?: { message?: string } } }

const TIMEOUT_MS = 5_000

export async function admitPod(
  store: Store,
  pod: KubeObject,
  user: User,
  dryRun: boolean,
): Promise<KubeObject> {
  const wanted = pod.metadata.annotations?.[INJECT_KEY]
  const namespace = store.list('namespaces').find(({ metadata }) => metadata.name === pod.metadata.namespace)
  const byLabel = namespace?.metadata.labels?.[INJECT_KEY] === 'enabled' && wanted === undefined
  const entry = wanted === 'enabled' ? 'pod' : byLabel ? 'namespace' : undefined
  if (!entry) return pod
  const hooks = store
    .list('mutatingwebhookconfigurations')
    .flatMap(({ webhooks }) => (webhooks ?? []) as Webhook[])
  let admitted = pod
  for (const webhook of hooks.filter(({ name }) => name.startsWith(`${entry}.`)))
    admitted = await call(webhook, admitted, user, dryRun)
  return admitted
}

async function call(
  { name, clientConfig }: Webhook,
  pod: KubeObject,
  user: User,
  dryRun: boolean,
): Promise<KubeObject> {
  const fail = (why: string) => new Refusal(500, 'InternalError', `failed calling webhook "${name}": ${why}`)
  const review = {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: randomUUID(),
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: pod.metadata.namespace,
      operation: 'CREATE',
      userInfo: { username: user.username, groups: user.groups },
      object: pod,
      dryRun,
    },
  }
  const text = await post(clientConfig.url ?? '', clientConfig.caBundle ?? '', JSON.stringify(review)).catch(
    error => {
      throw fail(error instanceof Error ? error.message : String(error))
    },
  )
  const { response } = JSON.parse(text) as Answer
  if (!response?.allowed)
    throw new Refusal(
      400,
      'BadRequest',
      `admission webhook "${name}" denied the request: ${response?.status?.message ?? ''}`,
    )
  if (!response.patch) return pod
  const operations = JSON.parse(Buffer.from(response.patch, 'base64').toString()) as Operation[]
  return jsonPatch(pod as Parameters<typeof jsonPatch>[0], operations) as KubeObject
}

function post(url: string, caBundle: string, body: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const options = {
    method: 'POST',
    ca: [Buffer.from(caBundle, 'base64').toString()],
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    signal: AbortSignal.timeout(TIMEOUT_MS),
    servername: 'postern-injector.postern-system.svc',
  }
  const call = request(url, options, response => {
    const chunks: Buffer[] = []
    response.on('data', chunk => chunks.push(chunk))
    response.on('end', () => resolve(Buffer.concat(chunks).toString()))
    response.on('error', reject)
  })
  call.on('error', reject)
  call.end(body)
  return promise
}
