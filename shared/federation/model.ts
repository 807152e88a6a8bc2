// Whom the mesh may meet from outside of its own trust domain: partners, each with its own roots, and clients without SPIFFE
// on named ports. Roots of different owners are never put together, and none of them is among our own (`trust`).
import { parseCidr } from '../addresses.ts'
import { type Decode, integer, listOf, object, refuse, text } from '../decode.ts'
import { asPosternError } from '../errors.ts'
import { isTrustDomain, parseSpiffeId } from '../spiffe-id.ts'
import type { TrustBundle } from '../trust-bundle.ts'

/** Outside our own prefixes, which win. Whoever answers there must have one of `identities`. */
export type Destination = {
  readonly cidr: string
  /** Each an exact SPIFFE ID, or one that ends in `/*`: every ID below this path. */
  readonly identities: readonly string[]
}

/** A foreign trust domain whose workloads may be met: its own roots, and where it is dialled. Full state. */
export type Partner = TrustBundle & { readonly destinations: readonly Destination[] }

export type PrincipalEntry = {
  /** Of the certificate, exactly: RFC 4514. */
  readonly subject: string
  /** A SPIFFE ID of a trust domain that has no bundle. */
  readonly principal: string
}

/** Callers without SPIFFE, on named ports alone, which the sidecar terminates: their own CA, and who is who. */
export type PartnerClients = {
  readonly name: string
  readonly roots: readonly string[]
  readonly ports: readonly number[]
  /** Who is not in it is refused. */
  readonly principals: readonly PrincipalEntry[]
}

const ANY_BELOW = '/*'

/** Why a text is no identity of a destination, or undefined. */
export function identityPatternFlaw(pattern: string, trustDomain: string): string | undefined {
  const isPrefix = pattern.endsWith(ANY_BELOW)
  const id = isPrefix ? `${pattern.slice(0, -ANY_BELOW.length)}/x` : pattern
  try {
    const { trustDomain: named } = parseSpiffeId(id)
    return named === trustDomain ? undefined : `is of the trust domain ${named}, not ${trustDomain}`
  } catch (thrown) {
    return asPosternError(thrown, 'PSTN_PEER_ID_INVALID').message
  }
}

/** Whether an identity is one of those that a destination may have. */
export const isExpectedIdentity = (identities: readonly string[], id: string): boolean =>
  identities.some(pattern =>
    pattern.endsWith(ANY_BELOW) ? id.startsWith(pattern.slice(0, -1)) : id === pattern,
  )

const filled = text(value => value !== '', 'a string that is not empty')
const cidr = text(value => parseCidr(value) !== undefined, 'a CIDR')

const spiffeId: Decode<string> = (value, where) => {
  try {
    return parseSpiffeId(filled(value, where)).id
  } catch (thrown) {
    throw refuse(where, asPosternError(thrown, 'PSTN_PEER_ID_INVALID').message)
  }
}

const partner = object<Partner>({
  trustDomain: text(isTrustDomain, 'a trust domain'),
  roots: listOf(filled),
  destinations: listOf(object<Destination>({ cidr, identities: listOf(filled) })),
})

const decodePartner: Decode<Partner> = (value, where) => {
  const decoded = partner(value, where)
  for (const [index, { identities }] of decoded.destinations.entries())
    for (const pattern of identities) {
      const flaw = identityPatternFlaw(pattern, decoded.trustDomain)
      if (flaw) throw refuse(`${where}.destinations[${index}].identities`, flaw)
    }
  return decoded
}

/** Two of one trust domain would be two answers to whose roots hold. */
export const decodePartners: Decode<readonly Partner[]> = (value, where) => {
  const partners = listOf(decodePartner)(value, where)
  const domains = new Set(partners.map(({ trustDomain }) => trustDomain))
  if (domains.size < partners.length) throw refuse(where, 'has a trust domain twice')
  return partners
}

export const decodePartnerClients: Decode<readonly PartnerClients[]> = listOf(
  object<PartnerClients>({
    name: filled,
    roots: listOf(filled),
    ports: listOf(integer(1, 65_535)),
    principals: listOf(object<PrincipalEntry>({ subject: filled, principal: spiffeId })),
  }),
)
