// The approver: whether a request gets an identity, and which. Pure: the caller fetches the pod and writes the answer.
// Identity comes from what the API server vouches for; "the pod is injected" is not asked, since the application's own
// token may get the same identity, and whoever may create pods chooses the service account anyway.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { boundPodOf, hasCondition, identityOf, readRequest, requestBytes, requesterOf } from './request.ts'
import { type Facts, RULES, type Rule } from './rules.ts'

export type ApproverSettings = { readonly signerName: string; readonly trustDomain: string }

/** What is decided with beside the request and its pod. */
export type ApproverKnowledge = ApproverSettings & { readonly revoked: RevocationCheck }

export type Verdict =
  | { readonly kind: 'approve'; readonly identity: SpiffeId; readonly publicKey: Buffer }
  /** `rule` is the name of a Rule: the label of metrics and the start of the reason. */
  | { readonly kind: 'deny'; readonly rule: string; readonly reason: string }
  | { readonly kind: 'ignore'; readonly reason: string }

/** Decides one request. `pod` is the live pod that `podOf` names; `rules` is replaced only to test each rule. */
export function decide(
  object: V1CertificateSigningRequest,
  pod: V1Pod | undefined,
  { signerName, trustDomain, revoked }: ApproverKnowledge,
  now: number,
  rules: readonly Rule[] = RULES,
): Verdict {
  if (object.spec.signerName !== signerName) return { kind: 'ignore', reason: 'for another signer' }
  if (hasCondition(object, 'Approved') || hasCondition(object, 'Denied')) {
    return { kind: 'ignore', reason: 'already decided' }
  }
  const requester = requesterOf(object)
  if (!requester) return { kind: 'ignore', reason: 'not from a service account: pending for a human' }
  const bytes = requestBytes(object)
  const read = readRequest(bytes)
  const facts: Facts = {
    object,
    requester,
    bound: boundPodOf(object),
    pod,
    identity: identityOf(requester, trustDomain),
    bytes,
    csr: 'csr' in read ? read.csr : undefined,
    flaw: 'flaw' in read ? read.flaw : undefined,
    revoked,
    now,
  }
  for (const { name, broken } of rules) {
    const reason = broken(facts)
    if (reason !== undefined) return { kind: 'deny', rule: name, reason }
  }
  const { csr, identity } = facts
  if (!csr || !identity) return { kind: 'deny', rule: 'incomplete', reason: 'nothing to approve' }
  return { kind: 'approve', identity, publicKey: csr.spki }
}

/** As Kubernetes names pods. `..` would be another path than a pod's. */
const POD_NAME = /^[a-z0-9][a-z0-9.-]*$/

/** The pod to fetch before deciding; undefined if the decision needs none. */
export function podOf(object: V1CertificateSigningRequest): { namespace: string; name: string } | undefined {
  const requester = requesterOf(object)
  const { name } = boundPodOf(object)
  return requester && name && POD_NAME.test(name) ? { namespace: requester.namespace, name } : undefined
}
