// Whether a PodCertificateRequest is answered with a certificate, and for whom. Pure. The rules about the pod are the
// CSR approver's own (injector/signer/rules.ts). Denied is for good: the kubelet asks no more for that pod, not even when
// its certificate expires. So only what can never become right is denied, and what may be lifted waits.
import type { V1Pod } from '@kubernetes/client-node'
import { asPosternError } from '../../shared/errors.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { type Csr, isP256Spki, parseCsr } from '../../shared/x509/csr.ts'
import { identityOf } from '../signer/request.ts'
import { POD_RULES, type PodFacts, type Rule } from '../signer/rules.ts'
import { isAnswered, type PodCertificateRequest, stubInfo, stubPem } from './request.ts'

/** What Kubernetes has names for, and ours for all else. */
export type DenialReason = 'UnsupportedKeyType' | 'InvalidUnverifiedUserAnnotations' | 'PosternDenied'

export type Verdict =
  | {
      readonly kind: 'issue'
      readonly identity: SpiffeId
      readonly publicKey: Buffer
      /** From notBefore to notAfter. */
      readonly lifetimeSeconds: number
    }
  /** `rule` is the label of metrics and the start of the message. */
  | { readonly kind: 'deny'; readonly rule: string; readonly reason: DenialReason; readonly message: string }
  /** It stays pending, until somebody lifts what is in its way. */
  | { readonly kind: 'wait'; readonly rule: string; readonly message: string }
  | { readonly kind: 'ignore' }

export type Knowledge = {
  readonly trustDomain: string
  readonly maxLeafLifetimeSeconds: number
  readonly revoked: RevocationCheck
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** The API server takes no certificate that lives less, from notBefore to notAfter. */
export const MIN_LIFETIME_SECONDS = 3600
/** It takes none whose notBefore is five minutes away from its own clock; the fifth is for what its clock is ahead of ours. */
export const POD_CERTIFICATE_BACKDATE_SECONDS = 240

/** What all certificates of these volumes may live at most, from notBefore on. */
const longest = (maxLeafLifetimeSeconds: number): number =>
  maxLeafLifetimeSeconds + POD_CERTIFICATE_BACKDATE_SECONDS

/** Why a signer that issues no longer than this can issue none for a volume; undefined if it can. */
export const tooShort = (maxLeafLifetimeSeconds: number): string | undefined =>
  longest(maxLeafLifetimeSeconds) < MIN_LIFETIME_SECONDS
    ? `maxLeafLifetimeSeconds is ${maxLeafLifetimeSeconds}, and Kubernetes takes no certificate of less than an hour for a volume`
    : undefined

type Facts = PodFacts & {
  readonly request: PodCertificateRequest
  readonly csr: Csr | undefined
  /** Why there is no `csr` although there is a stub. */
  readonly flaw: string | undefined
  readonly publicKey: Buffer | undefined
}

type RequestRule = Rule<Facts> & { readonly reason?: DenialReason }

export const RULES: readonly RequestRule[] = [
  ...POD_RULES,
  {
    name: 'user-annotations',
    reason: 'InvalidUnverifiedUserAnnotations',
    broken: ({ request }) => {
      const keys = Object.keys(request.spec.unverifiedUserAnnotations ?? {})
      return keys.length === 0 ? undefined : `userAnnotations: this signer knows none, not ${keys.join(', ')}`
    },
  },
  { name: 'pkcs10', broken: ({ flaw }) => flaw },
  {
    name: 'key',
    reason: 'UnsupportedKeyType',
    broken: ({ publicKey }) =>
      publicKey && isP256Spki(publicKey) ? undefined : 'the key must be ECDSA P-256: keyType ECDSAP256',
  },
  {
    name: 'stub',
    broken: ({ csr }) =>
      !csr || stubInfo(csr.spki).equals(csr.info)
        ? undefined
        : 'stubPKCS10Request must hold the public key and nothing else: no subject, no attributes',
  },
  {
    name: 'signature',
    broken: ({ csr }) =>
      !csr || csr.signatureValid
        ? undefined
        : 'stubPKCS10Request is not signed with ECDSA-SHA256 by the key that it holds',
  },
]

/** `pod`: the live pod of the name that the request has. `rules` is replaced only to test each rule. */
export function decide(
  request: PodCertificateRequest,
  pod: V1Pod | undefined,
  { trustDomain, maxLeafLifetimeSeconds, revoked, now }: Knowledge,
  rules = RULES,
): Verdict {
  if (isAnswered(request)) return { kind: 'ignore' }
  const { spec, metadata } = request
  const requester = { namespace: metadata?.namespace ?? '', serviceAccount: spec.serviceAccountName }
  const bound = { name: spec.podName, uid: spec.podUID, node: spec.nodeName }
  const identity = identityOf(requester, trustDomain)
  const facts: Facts = { request, requester, bound, pod, identity, now, ...readKey(request) }
  for (const { name, reason = 'PosternDenied', broken } of rules) {
    const message = broken(facts)
    if (message !== undefined) return { kind: 'deny', rule: name, reason, message }
  }
  const { publicKey } = facts
  if (!identity || !publicKey)
    return { kind: 'deny', rule: 'incomplete', reason: 'PosternDenied', message: 'nothing to issue' }
  const why = revoked({ identity, podUid: spec.podUID })
  if (why !== undefined) return { kind: 'wait', rule: 'revoked', message: why }
  const short = tooShort(maxLeafLifetimeSeconds)
  if (short !== undefined) return { kind: 'wait', rule: 'lifetime', message: short }
  const { maxExpirationSeconds = MIN_LIFETIME_SECONDS } = spec
  const lifetimeSeconds = Math.min(maxExpirationSeconds, longest(maxLeafLifetimeSeconds))
  return { kind: 'issue', identity, publicKey, lifetimeSeconds }
}

function readKey({ spec }: PodCertificateRequest): Pick<Facts, 'csr' | 'flaw' | 'publicKey'> {
  const { stubPKCS10Request: stub, pkixPublicKey: key } = spec
  if (!stub)
    return { csr: undefined, flaw: undefined, publicKey: key ? Buffer.from(key, 'base64') : undefined }
  try {
    const csr = parseCsr(stubPem(stub))
    return { csr, flaw: undefined, publicKey: csr.spki }
  } catch (error) {
    return { csr: undefined, flaw: asPosternError(error, 'PSTN_CSR_DENIED').message, publicKey: undefined }
  }
}
