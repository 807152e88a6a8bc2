// A case of test/vectors/csr on a real API server: its pod made as the patch says, its ids replaced by real ones, its
// request sent in the name that it gives, and which layer refused.
import { randomUUID } from 'node:crypto'
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import { CSR_PATH } from '../../../injector/signer/objects.ts'
import type { Kube } from '../../../shared/kube/rest.ts'
import { parseCertificate } from '../../../shared/x509/certificate.ts'
import { inputOf } from '../../support/forged-case.ts'
import { mergePatch } from '../../support/merge-patch.ts'
import { type Case, type Layer, NOW, OTHER_UID, POD_NAME, POD_UID } from '../../vectors/csr/cases.ts'
import type { Answer, Anybody, User } from './as-anybody.ts'
import { answered } from './signer-cluster.ts'

/** Which layer refused and what it said; of a certificate, for whom it is. */
export type Outcome = { readonly by: Layer | 'nobody' | 'pending'; readonly says: string }

export type LiveCase = {
  /** As it is sent. */
  readonly body: V1CertificateSigningRequest
  readonly user: User
}

let count = 0

/** Makes the pod of a case, under a name that no other case has. */
export async function prepare(kube: Kube, one: Case): Promise<LiveCase> {
  const { object, pod } = inputOf(one)
  count += 1
  const name = `cart-${count}`
  const made = pod && (await makePod(kube, pod, name))
  const ids = new Map<string, string>([
    [POD_UID, randomUUID()],
    [OTHER_UID, randomUUID()],
  ])
  if (made) ids.set(pod?.metadata?.uid ?? '', made.metadata?.uid ?? '')
  return sentBy(withIds(object, name, ids), one)
}

function withIds(
  object: V1CertificateSigningRequest,
  name: string,
  ids: ReadonlyMap<string, string>,
): V1CertificateSigningRequest {
  let text = JSON.stringify(object).replaceAll(POD_NAME, name)
  for (const [from, to] of ids)
    text = text.replaceAll(from, to).replaceAll(from.toUpperCase(), to.toUpperCase())
  return JSON.parse(text)
}

/** What the API server is to vouch for goes out of the body into the user. */
function sentBy({ metadata, spec, ...rest }: V1CertificateSigningRequest, { sent = {} }: Case): LiveCase {
  const { username = '', groups = [], extra = {}, ...written } = spec
  const { uid: _, ...fields } = metadata ?? {}
  const body = { ...rest, metadata: fields, spec: written }
  return { body: mergePatch(body, sent), user: { username, groups, extra } }
}

const PODS = '/api/v1/namespaces/shop/pods'
const MERGE = 'application/merge-patch+json'

async function makePod(kube: Kube, { metadata, spec, status }: V1Pod, name: string): Promise<V1Pod> {
  const deleted = metadata?.deletionTimestamp
  const graceSeconds = deleted && Math.round((new Date(deleted).getTime() - NOW) / 1000)
  const isOver = graceSeconds !== undefined && graceSeconds < 0
  const pod = await kube.create<V1Pod>(PODS, {
    metadata: {
      name,
      ...(metadata?.labels && { labels: metadata.labels }),
      // Keeps the pod there when its time is over.
      ...(isOver && { finalizers: ['example.com/keep'] }),
    },
    spec: { ...spec, containers: [{ name: 'app', image: 'none' }] },
  })
  if (graceSeconds !== undefined)
    await kube.delete(`${PODS}/${name}`, { gracePeriodSeconds: Math.max(graceSeconds, 0) })
  if (status?.phase !== 'Running')
    await kube.patch(`${PODS}/${name}/status`, MERGE, { status: { phase: status?.phase } })
  return pod
}

/** Sends it; the object if the API server took it. */
export async function send(
  anybody: Anybody,
  { body, user }: LiveCase,
  as: Parameters<Anybody['create']>[2] = user,
): Promise<Outcome | V1CertificateSigningRequest> {
  const answer = await anybody.create(CSR_PATH, body, as)
  return answer.kind === 'created' ? (answer.object as V1CertificateSigningRequest) : refusal(answer)
}

function refusal({ status, message }: Extract<Answer, { kind: 'refused' }>): Outcome {
  if (status === 401) return { by: 'authentication', says: message }
  if (/ValidatingAdmissionPolicy 'postern-requests'/.test(message))
    return { by: 'admission policy', says: message }
  return { by: status === 403 ? 'RBAC' : 'API server', says: message }
}

export const isOutcome = (sent: Outcome | V1CertificateSigningRequest): sent is Outcome => 'by' in sent

/** Waits for what the injector says to it. */
export const outcomeOf = async (kube: Kube, object: V1CertificateSigningRequest): Promise<Outcome> =>
  read(await answered(kube, object))

/** What the injector has said to it so far. */
export function read({ status }: V1CertificateSigningRequest): Outcome {
  const messageOf = (type: string) => status?.conditions?.find(condition => condition.type === type)?.message
  const [denied, failed] = [messageOf('Denied'), messageOf('Failed')]
  if (denied !== undefined) return { by: 'approver', says: denied }
  if (failed !== undefined) return { by: 'signer', says: failed }
  if (!status?.certificate) return { by: 'pending', says: messageOf('Approved') ?? '' }
  const leaf = parseCertificate(Buffer.from(status.certificate, 'base64').toString())
  return { by: 'nobody', says: leaf.uriSans.join() }
}

/** Maps with eight at a time: the API server has two processors at most to itself. */
export async function each<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<Map<T, R>> {
  const results = new Map<T, R>()
  const queue = items.values()
  const worker = async () => {
    for (const item of queue) results.set(item, await act(item))
  }
  await Promise.all(Array.from({ length: 8 }, worker))
  return results
}
