// What an operator's request makes of the CA. The answer is in the same write that takes the request off: whoever asked
// finds it in the status, and nobody does it a second time.
import { type CaAnswer, type CaRecord, MOST_ANSWERS, type SkippedPod } from '../../shared/ca/record.ts'
import { CA_REQUEST_PREFIX, type CaRequest, decodeCaRequest } from '../../shared/ca/request.ts'
import { PosternError } from '../../shared/errors.ts'
import type { CaMaterial, KeyedCa } from './authority.ts'
import { begin, disgrace, recordOf, replaceRoot, revocationOf, skip, withoutRoot } from './rotation.ts'

export type PendingRequest = {
  readonly annotation: string
  readonly id: string
  readonly request: CaRequest | PosternError
}

/** What requests need that is not in the Secret. */
export type RequestContext = {
  readonly now: number
  /** The uids of live pods with a sidecar, by `<namespace>/<name>`. */
  readonly pods: ReadonlyMap<string, string>
  newRoot(): Promise<KeyedCa>
  newIssuer(root: KeyedCa): Promise<KeyedCa>
}

/** Oldest first. */
export function pendingRequests(annotations: Readonly<Record<string, string>> = {}): PendingRequest[] {
  const pending = Object.entries(annotations)
    .filter(([key]) => key.startsWith(CA_REQUEST_PREFIX))
    .map(([annotation, value]) => {
      const id = annotation.slice(CA_REQUEST_PREFIX.length)
      return { annotation, id, request: read(id, value) }
    })
  const askedAt = ({ request }: PendingRequest) => ('at' in request ? request.at : '')
  return pending.sort((a, b) => (askedAt(a) < askedAt(b) ? -1 : 1))
}

function read(id: string, value: string): CaRequest | PosternError {
  try {
    return decodeCaRequest(id, value)
  } catch (thrown) {
    if (thrown instanceof PosternError) return thrown
    throw thrown
  }
}

type Outcome = { readonly material: CaMaterial; readonly says: string } | { readonly refused: string }

/** The CA with the request done, or refused, and the answer to it in its record. */
export async function answerRequest(
  before: CaMaterial,
  { id, request }: PendingRequest,
  context: RequestContext,
): Promise<CaMaterial> {
  const at = new Date(context.now).toISOString()
  if (request instanceof PosternError)
    return withAnswer(before, { id, by: 'somebody', at, done: 'refused', says: request.message })
  const { by } = request
  const outcome = await perform(before, request, context)
  if ('refused' in outcome) return withAnswer(before, { id, by, at, done: 'refused', says: outcome.refused })
  return withAnswer(outcome.material, { id, by, at, done: 'done', says: outcome.says })
}

function perform(before: CaMaterial, request: CaRequest, context: RequestContext): Promise<Outcome> {
  switch (request.kind) {
    case 'rotate':
      return rotate(before, request.skip, request.by, context)
    case 'skip':
      return Promise.resolve(skipPods(before, request.pods, request.by, context))
    case 'rotate-issuer':
      return rotateIssuer(before, context)
    case 'revoke-root':
      return revoke(before, request.fingerprint, request.by, context)
  }
}

async function rotate(
  before: CaMaterial,
  names: readonly string[],
  by: string,
  context: RequestContext,
): Promise<Outcome> {
  const { phase, rotation } = recordOf(before)
  if (rotation) return { refused: `a rotation runs since ${rotation.began} (${phase}), by ${rotation.by}` }
  const skipped = resolve(names, by, context)
  if ('refused' in skipped) return skipped
  const next = await context.newRoot()
  return {
    material: begin(before, next, skipped.pods, { by, now: context.now }),
    says: 'a new root is published',
  }
}

function skipPods(
  before: CaMaterial,
  names: readonly string[],
  by: string,
  context: RequestContext,
): Outcome {
  const { phase, rotation } = recordOf(before)
  if (phase !== 'publishing' && !rotation?.heldBy) return { refused: 'no rotation waits for pods' }
  const skipped = resolve(names, by, context)
  if ('refused' in skipped) return skipped
  return { material: skip(before, skipped.pods), says: `not waited for: ${names.join(', ')}` }
}

/** Certificates under the former one stay good: they bring it with them, and the root has not changed. */
async function rotateIssuer(before: CaMaterial, { newIssuer }: RequestContext): Promise<Outcome> {
  const issuer = await newIssuer(before.root)
  return { material: { ...before, issuer }, says: 'a new issuer signs' }
}

/** A name without a live pod may be a slip: the pod that was meant would be waited for. */
function resolve(
  names: readonly string[],
  by: string,
  { pods, now }: RequestContext,
): { readonly pods: readonly SkippedPod[] } | { readonly refused: string } {
  const at = new Date(now).toISOString()
  const found: SkippedPod[] = []
  for (const pod of names) {
    const uid = pod.endsWith('/*') ? '*' : pods.get(pod)
    if (uid === undefined) return { refused: `there is no live pod ${pod} with a sidecar` }
    found.push({ pod, uid, by, at })
  }
  return { pods: found }
}

async function revoke(
  before: CaMaterial,
  fingerprint: string,
  by: string,
  { now, newRoot, newIssuer }: RequestContext,
): Promise<Outcome> {
  const revocation = revocationOf(before, fingerprint)
  const asking = { by, now }
  switch (revocation.kind) {
    case 'unknown':
      return { refused: revocation.says }
    case 'next':
      return { material: withoutRoot(before, fingerprint, asking), says: 'the rotation is given up' }
    case 'retired':
      return { material: withoutRoot(before, fingerprint, asking), says: 'the old root is trusted no more' }
    case 'former':
      return { material: disgrace(before, fingerprint, asking), says: 'what it vouched for ends now' }
    case 'present': {
      const root = before.next ?? (await newRoot())
      const issuer = await newIssuer(root)
      return {
        material: replaceRoot(before, { root, issuer }, asking),
        says: 'another root signs; every certificate under this one is worth nothing',
      }
    }
  }
}

function withAnswer(material: CaMaterial, answer: CaAnswer): CaMaterial {
  const record = recordOf(material)
  const answered: CaRecord = { ...record, answers: [answer, ...record.answers].slice(0, MOST_ANSWERS) }
  return { ...material, record: answered }
}
