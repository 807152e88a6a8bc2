// What the API server does to a CertificateSigningRequest: it vouches for who asked, and keeps its parts apart: the
// request itself, /approval (who may ask for a human's or an approver's word) and /status (the signer's answer).
import { createPublicKey } from 'node:crypto'
import type { User } from './access.ts'
import { type KubeObject, Refusal } from './store.ts'

type Condition = { type: string; [field: string]: unknown }
type Status = { conditions?: Condition[]; certificate?: string }

const MIN_EXPIRATION_SECONDS = 600
const isVerdict = ({ type }: Condition) => type === 'Approved' || type === 'Denied'

/** @throws Refusal 422 */
export function vouchedRequest(object: KubeObject, user: User): KubeObject {
  const spec = (object.spec ?? {}) as {
    request?: string
    signerName?: string
    usages?: string[]
    expirationSeconds?: number
  }
  const refuse = (field: string, why: string) =>
    new Refusal(
      422,
      'Invalid',
      `CertificateSigningRequest "${object.metadata.name}" is invalid: spec.${field}: ${why}`,
    )
  const pem = Buffer.from(spec.request ?? '', 'base64').toString()
  if (!/-----BEGIN CERTIFICATE REQUEST-----/.test(pem))
    throw refuse('request', 'PEM block type must be CERTIFICATE REQUEST')
  if (!spec.signerName?.includes('/')) throw refuse('signerName', 'must be a fully qualified name')
  if (!spec.usages?.length) throw refuse('usages', 'Required value')
  if (spec.expirationSeconds !== undefined && spec.expirationSeconds < MIN_EXPIRATION_SECONDS)
    throw refuse(
      'expirationSeconds',
      `may not specify a duration less than ${MIN_EXPIRATION_SECONDS} seconds`,
    )
  const { username, uid, groups, extra } = user
  return { ...object, spec: { ...spec, username, uid, groups, extra }, status: {} }
}

/** The present object with the verdict of `update`; the rest of `update` is ignored. */
export function withApproval(present: KubeObject, update: KubeObject): KubeObject {
  const kept = conditionsOf(present).filter(condition => !isVerdict(condition))
  const verdicts = conditionsOf(update).filter(isVerdict)
  if (new Set(verdicts.map(({ type }) => type)).size > 1)
    throw new Refusal(
      422,
      'Invalid',
      'status.conditions: Approved and Denied conditions are mutually exclusive',
    )
  const lost = conditionsOf(present).filter(
    c => isVerdict(c) && !verdicts.some(({ type }) => type === c.type),
  )
  if (lost.length > 0)
    throw new Refusal(
      422,
      'Invalid',
      'status.conditions: updates may not remove a condition of type Approved or Denied',
    )
  const status = { ...(present.status as Status), conditions: [...kept, ...verdicts] }
  return {
    ...present,
    metadata: update.metadata,
    status,
  }
}

/** The present object with certificate and Failed condition of `update`; a certificate is set once. */
export function withStatus(present: KubeObject, update: KubeObject): KubeObject {
  const before = (present.status ?? {}) as Status
  const after = (update.status ?? {}) as Status
  if (before.certificate && after.certificate !== before.certificate)
    throw new Refusal(
      422,
      'Invalid',
      'status.certificate: updates may not set certificate content more than once',
    )
  if (after.certificate) createPublicKey(Buffer.from(after.certificate, 'base64').toString())
  const verdicts = conditionsOf(present).filter(isVerdict)
  const others = conditionsOf(update).filter(condition => !isVerdict(condition))
  const status = { ...after, conditions: [...verdicts, ...others] }
  return {
    ...present,
    metadata: update.metadata,
    status,
  }
}

const conditionsOf = (object: KubeObject): Condition[] =>
  (object.status as Status | undefined)?.conditions ?? []
