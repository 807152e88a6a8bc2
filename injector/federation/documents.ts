// Federation ConfigMaps as this replica has them in force. A version that does not parse changes nothing: the last good one
// stays; where there never was a good one, it names nobody, and so nobody is trusted. Of two that contradict each other the
// older ConfigMap holds and the younger names nobody: whoever came first does not lose his partner to a second writer. Pure.
import type { V1ConfigMap } from '@kubernetes/client-node'
import { conflictAmong } from '../../shared/federation/conflicts.ts'
import type {
  FederationDocument,
  PartnerClientsDocument,
  TrustDomainDocument,
} from '../../shared/federation/document.ts'
import type { FetchedBundle } from '../../shared/federation/fetched.ts'
import type { Partner } from '../../shared/federation/model.ts'
import { parseFederation } from '../../shared/federation/parse.ts'
import { describeProblem } from '../../shared/policy/document.ts'

export type FederationRecord = {
  /** Of the ConfigMap. */
  readonly name: string
  readonly createdAt: number
  readonly documents: readonly FederationDocument[]
  /** One line each; empty if the present version is the one in force. */
  readonly problems: readonly string[]
  readonly inForce: 'present' | 'last good' | 'nothing'
}

export function federationRecord(
  { metadata, data, binaryData }: V1ConfigMap,
  former: FederationRecord | undefined,
  ownTrustDomain: string,
): FederationRecord {
  const name = metadata?.name ?? ''
  const createdAt = new Date(metadata?.creationTimestamp ?? 0).getTime()
  const parsed = parseFederation({ data, binaryData }, ownTrustDomain)
  if (parsed.kind === 'valid')
    return { name, createdAt, documents: parsed.documents, problems: [], inForce: 'present' }
  const problems = parsed.problems.map(describeProblem)
  const documents = former?.documents ?? []
  return { name, createdAt, documents, problems, inForce: documents.length > 0 ? 'last good' : 'nothing' }
}

/** All that hold together, oldest first; those that contradict an older one with why they name nobody. */
export function agreed(records: Iterable<FederationRecord>): readonly FederationRecord[] {
  const oldestFirst = [...records].sort((a, b) => a.createdAt - b.createdAt || (a.name < b.name ? -1 : 1))
  const held: FederationDocument[] = []
  return oldestFirst.map(record => {
    const conflict = conflictAmong(record.documents, held)
    if (conflict === undefined) {
      held.push(...record.documents)
      return record
    }
    return { ...record, documents: [], problems: [...record.problems, conflict], inForce: 'nothing' }
  })
}

export type Named<D> = { readonly configMap: string; readonly document: D }

export const trustDomainsIn = (records: readonly FederationRecord[]): readonly Named<TrustDomainDocument>[] =>
  records.flatMap(({ name, documents }) =>
    documents.flatMap(document => (document.kind === 'TrustDomain' ? [{ configMap: name, document }] : [])),
  )

export const clientsIn = (records: readonly FederationRecord[]): readonly PartnerClientsDocument[] =>
  records.flatMap(({ documents }) =>
    documents.flatMap(document => (document.kind === 'PartnerClients' ? [document] : [])),
  )

/** What is pushed: of a partner without a bundle yet, that nobody of it is trusted. */
export function partnersOf(
  documents: readonly TrustDomainDocument[],
  fetched: ReadonlyMap<string, FetchedBundle>,
): readonly Partner[] {
  return documents
    .map(({ trustDomain, source, destinations }) => {
      const roots = source.kind === 'inline' ? source.roots : (fetched.get(trustDomain)?.roots ?? [])
      return { trustDomain, roots, destinations }
    })
    .sort((a, b) => (a.trustDomain < b.trustDomain ? -1 : 1))
}
