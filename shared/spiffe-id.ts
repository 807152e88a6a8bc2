// SPIFFE IDs as values: parsed once at the edge, then carried as a branded string that needs no further check.
// Source: SPIFFE-ID standard, sections 2.1 to 2.4.
import { PosternError } from './errors.ts'

declare const brand: unique symbol
/** A valid SPIFFE ID with a non-root path, at most 2048 bytes. */
export type SpiffeId = string & { readonly [brand]: 'SpiffeId' }

/** A Kubernetes workload's identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. */
export type WorkloadId = {
  readonly trustDomain: string
  readonly namespace: string
  readonly serviceAccount: string
}

const MAX_BYTES = 2048
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/
const SEGMENT = /^[A-Za-z0-9._-]+$/

export const isTrustDomain = (text: string): boolean => TRUST_DOMAIN.test(text)

/** Of a longer one, which a peer may have sent, a message shows as much. */
const SHOWN_CHARACTERS = 200

/** @throws PosternError PSTN_PEER_ID_INVALID naming the rule that is broken. */
export function parseSpiffeId(text: string): { id: SpiffeId; trustDomain: string; path: readonly string[] } {
  const refuse = (why: string) => {
    const shown = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text
    return new PosternError('PSTN_PEER_ID_INVALID', `${JSON.stringify(shown)}: ${why}`)
  }
  if (Buffer.byteLength(text) > MAX_BYTES) throw refuse(`longer than ${MAX_BYTES} bytes`)
  if (!text.startsWith('spiffe://')) throw refuse('does not start with spiffe://')
  const [trustDomain = '', ...path] = text.slice('spiffe://'.length).split('/')
  if (!isTrustDomain(trustDomain)) throw refuse('the trust domain has characters outside a-z 0-9 . _ -')
  if (path.length === 0) throw refuse('the path is empty: this names a trust domain, not a workload')
  for (const segment of path) {
    if (!SEGMENT.test(segment)) throw refuse('a path segment is empty or has characters outside A-Za-z0-9._-')
    if (segment === '.' || segment === '..') throw refuse('a path segment is a dot segment')
  }
  return { id: text as SpiffeId, trustDomain, path }
}

/**
 * The trust domain that the ID of a signing authority names, or undefined if it is no such ID: it has no path (section
 * 3.1). A lone `/` counts as none, as in the example of SPIFFE Trust Domain and Bundle, appendix A.
 */
export function trustDomainNamedBy(text: string): string | undefined {
  const [, trustDomain = ''] = /^spiffe:\/\/([^/]*)\/?$/.exec(text) ?? []
  return isTrustDomain(trustDomain) ? trustDomain : undefined
}

/** @throws PosternError PSTN_PEER_ID_INVALID if a part has characters that a SPIFFE ID does not allow. */
export function workloadSpiffeId({ trustDomain, namespace, serviceAccount }: WorkloadId): SpiffeId {
  return parseSpiffeId(`spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`).id
}

/** The workload that an ID names, or undefined if its path is not `/ns/<namespace>/sa/<service account>`. */
export function workloadOf(id: SpiffeId): WorkloadId | undefined {
  const { trustDomain, path } = parseSpiffeId(id)
  const [ns, namespace, sa, serviceAccount, ...rest] = path
  if (ns !== 'ns' || sa !== 'sa' || !namespace || !serviceAccount || rest.length > 0) return undefined
  return { trustDomain, namespace, serviceAccount }
}
