// What two federation documents may not say both. Pure; admission asks it of what is about to be written, and each replica of
// all that is there, since two writers may each be right alone.
import type { Selector } from '../policy/document.ts'
import { parseSpiffeId } from '../spiffe-id.ts'
import {
  type FederationDocument,
  nameOf,
  type PartnerClientsDocument,
  type TrustDomainDocument,
} from './document.ts'

/** A ConfigMap of bundles and a sidecar's state hold no more of them. */
const MOST_PARTNERS = 24

/** Why a document cannot stand beside another, or undefined. */
function conflictBetween(one: FederationDocument, other: FederationDocument): string | undefined {
  if (nameOf(one) === nameOf(other)) return `${nameOf(one)} is written twice`
  if (one.kind === 'TrustDomain')
    return other.kind === 'TrustDomain' ? betweenDomains(one, other) : betweenKinds(one, other)
  return other.kind === 'TrustDomain' ? betweenKinds(other, one) : betweenClients(one, other)
}

/** The first conflict among documents that come together, or with those that are there. */
export function conflictAmong(
  documents: readonly FederationDocument[],
  present: readonly FederationDocument[] = [],
): string | undefined {
  const before = [...present]
  for (const document of documents) {
    for (const other of before) {
      const conflict = conflictBetween(document, other)
      if (conflict !== undefined) return conflict
    }
    before.push(document)
  }
  const partners = before.filter(({ kind }) => kind === 'TrustDomain').length
  return partners > MOST_PARTNERS ? `${partners} trust domains; at most ${MOST_PARTNERS}` : undefined
}

function betweenDomains(one: TrustDomainDocument, other: TrustDomainDocument): string | undefined {
  if (one.trustDomain === other.trustDomain)
    return `${nameOf(one)} and ${nameOf(other)} are both about ${one.trustDomain}`
  // Of prefixes that overlap the longer one decides; of two that are equal, nobody could say.
  const shared = one.destinations.find(({ cidr }) => other.destinations.some(met => met.cidr === cidr))
  if (shared) return `${shared.cidr} is a destination of ${nameOf(one)} and of ${nameOf(other)}`
  return undefined
}

/** Who is known by a table alone may not be somebody whom a bundle vouches for. */
function betweenKinds(domain: TrustDomainDocument, { clients }: PartnerClientsDocument): string | undefined {
  const taken = clients.principals.find(
    ({ principal }) => parseSpiffeId(principal).trustDomain === domain.trustDomain,
  )
  return (
    taken &&
    `${taken.principal} of PartnerClients ${clients.name} is of ${domain.trustDomain}, which has a bundle (${nameOf(domain)})`
  )
}

/** One CA and one table for a port of a pod: which of two a caller is judged by must not be a matter of luck. */
function betweenClients(one: PartnerClientsDocument, other: PartnerClientsDocument): string | undefined {
  const port = one.clients.ports.find(port => other.clients.ports.includes(port))
  if (port === undefined || one.namespace !== other.namespace) return undefined
  if (!maySelectOnePod(one.selector, other.selector)) return undefined
  return `${nameOf(one)} and ${nameOf(other)} may both be about port ${port} of a pod in ${one.namespace}`
}

const maySelectOnePod = (one: Selector = {}, other: Selector = {}): boolean =>
  Object.entries(one).every(([key, value]) => other[key] === undefined || other[key] === value)
