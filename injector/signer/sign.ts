// The signer: whether an approved request may be signed, and what stands in the certificate. Pure. It trusts an
// approval only as far as it must: the identity of a service account is always the one its token names, whoever
// approved; only a request of a human or a controller outside the pods is taken at the approver's word.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import type { RevocationCheck } from '../../shared/revocation.ts'
import { parseSpiffeId, type SpiffeId, workloadOf } from '../../shared/spiffe-id.ts'
import { buildCsrInfo, type Csr, isP256Spki } from '../../shared/x509/csr.ts'
import type { LeafRequest } from '../ca/authority.ts'
import {
  awaitsSignature,
  type BoundPod,
  boundPodOf,
  identityOf,
  readRequest,
  requestBytes,
  requesterOf,
} from './request.ts'

const DEFAULT_LIFETIME_SECONDS = 24 * 3600
/** Services beyond this many lend a leaf no names: whoever creates thousands must not make it too large to send. */
const MAX_SERVICES = 32

export type Signable =
  | { readonly kind: 'sign'; readonly identity: SpiffeId; readonly publicKey: Buffer }
  /** Not approved, or answered already. */
  | { readonly kind: 'wait' }
  /** Approved, but nothing that may ever be signed. */
  | { readonly kind: 'fail'; readonly reason: string }

export function signable(
  object: V1CertificateSigningRequest,
  trustDomain: string,
  revoked: RevocationCheck,
): Signable {
  if (!awaitsSignature(object)) return { kind: 'wait' }
  const read = readRequest(requestBytes(object))
  if ('flaw' in read) return { kind: 'fail', reason: read.flaw }
  const { csr } = read
  if (!isP256Spki(csr.spki)) return { kind: 'fail', reason: 'the public key must be ECDSA P-256' }
  if (!csr.signatureValid) return { kind: 'fail', reason: 'it is not signed by the key that it holds' }
  const requester = requesterOf(object)
  const identity = requester ? identityOf(requester, trustDomain) : vouchedIdentity(csr, trustDomain)
  if (!identity || !buildCsrInfo(csr.spki, identity).equals(csr.info)) {
    const permitted = identity ?? `a workload’s SPIFFE ID in ${trustDomain}`
    return { kind: 'fail', reason: `the request must hold the URI SAN ${permitted} and nothing else` }
  }
  // Approved by hand, or a moment before it was revoked.
  const { uid } = boundPodOf(object)
  const why = revoked({ identity, ...(uid && { podUid: uid }) })
  if (why !== undefined) return { kind: 'fail', reason: why }
  return { kind: 'sign', identity, publicKey: csr.spki }
}

/** The workload that a canonical request names; the comparison of bytes that follows makes the search safe. */
function vouchedIdentity({ info }: Csr, trustDomain: string): SpiffeId | undefined {
  const text = info.toString('latin1')
  const start = text.indexOf('spiffe://')
  if (start < 0) return undefined
  try {
    const { id } = parseSpiffeId(text.slice(start))
    return workloadOf(id)?.trustDomain === trustDomain ? id : undefined
  } catch {
    return undefined
  }
}

/** Seconds that a leaf lives: as asked, but never longer than the settings allow. */
export const lifetime = (
  requestedSeconds: number | undefined,
  maxSeconds: number,
  defaultSeconds = DEFAULT_LIFETIME_SECONDS,
): number => Math.min(requestedSeconds ?? defaultSeconds, maxSeconds)

/** What X.520 lets a serialNumber be; a pod's uid always is. */
const PRINTABLE = /^[A-Za-z0-9-]{1,64}$/

/** What a workload's leaf is made of, however it was asked for. */
type LeafBasis = {
  readonly identity: SpiffeId
  readonly publicKey: Buffer
  /** Services of the pod's namespace that select it. */
  readonly serviceNames: readonly string[]
  readonly clusterDomain: string
  readonly now: number
}

export type LeafFacts = LeafBasis & {
  readonly object: V1CertificateSigningRequest
  readonly maxLeafLifetimeSeconds: number
}

export function leafFor({ object, maxLeafLifetimeSeconds, ...basis }: LeafFacts): LeafRequest {
  return workloadLeaf({
    ...basis,
    pod: boundPodOf(object),
    lifetimeSeconds: lifetime(object.spec.expirationSeconds, maxLeafLifetimeSeconds),
  })
}

export type WorkloadLeafFacts = LeafBasis & {
  readonly pod: Pick<BoundPod, 'name' | 'uid'>
  readonly lifetimeSeconds: number
}

/**
 * A pod without a Service has a DNS name that nobody dials: of a certificate that has none OpenSSL, Node.js and Python take
 * the common name for the host, and a pod's name may be that of any host.
 */
export function workloadLeaf(facts: WorkloadLeafFacts): LeafRequest {
  const { pod, identity, publicKey, serviceNames, clusterDomain, lifetimeSeconds, now } = facts
  const { name, uid } = pod
  const namespace = workloadOf(identity)?.namespace
  const names = [...serviceNames]
    .sort()
    .slice(0, MAX_SERVICES)
    .map(service => `${service}.${namespace}.svc`)
    .flatMap(name => [name, `${name}.${clusterDomain}`])
  return {
    publicKeySpki: publicKey,
    ...(name && { commonName: name }),
    ...(uid && PRINTABLE.test(uid) && { podUid: uid }),
    uri: identity,
    dnsNames: names.length > 0 || !uid ? names : [`${uid}.${namespace}.pod`],
    lifetimeSeconds,
    now,
  }
}
