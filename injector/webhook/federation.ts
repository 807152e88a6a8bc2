// Answers for federation ConfigMaps: what does not parse, or contradicts what is in force, never gets in; what is allowed and
// perhaps not meant is said.
import { parseCidr } from '../../shared/addresses.ts'
import { cidrsOverlap } from '../../shared/cidr.ts'
import { conflictAmong } from '../../shared/federation/conflicts.ts'
import type { FederationDocument } from '../../shared/federation/document.ts'
import { parseFederation } from '../../shared/federation/parse.ts'
import { FEDERATION_LABEL, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { describeProblem } from '../../shared/policy/document.ts'
import { type AdmissionAnswer, type AdmissionRequest, configMapOf } from './admission.ts'

export type FederationAdmission = {
  /** Of our own. */
  readonly trustDomain: string
  /** What the other ConfigMaps hold; this replica may not know the latest of them yet. */
  present(): readonly { readonly name: string; readonly documents: readonly FederationDocument[] }[]
  /** The cluster's own. */
  prefixes(): readonly string[]
}

export const admitFederation =
  ({ trustDomain, present, prefixes }: FederationAdmission) =>
  async (request: AdmissionRequest): Promise<AdmissionAnswer> => {
    const configMap = configMapOf(request)
    const { name, labels } = configMap.metadata ?? {}
    // The label is being removed: nothing of this is in force any more.
    if (labels?.[FEDERATION_LABEL] !== 'true') return { kind: 'allow' }
    if (request.namespace !== SYSTEM_NAMESPACE)
      return refuse(`federation is for the whole mesh: write it in ${SYSTEM_NAMESPACE}`)
    const parsed = parseFederation(configMap, trustDomain)
    if (parsed.kind === 'invalid') return refuse(parsed.problems.map(describeProblem).join('\n'))
    const others = present().flatMap(record => (record.name === name ? [] : record.documents))
    const conflict = conflictAmong(parsed.documents, others)
    if (conflict !== undefined) return refuse(`${conflict}; keep one of them`)
    return {
      kind: 'allow',
      warnings: parsed.documents.flatMap(document => warningsFor(document, prefixes())),
    }
  }

const refuse = (message: string): AdmissionAnswer => ({
  kind: 'refuse',
  code: 'PSTN_FEDERATION_INVALID',
  message,
})

const WIDE = { ipv4: 8, ipv6: 16 } as const

function warningsFor(document: FederationDocument, prefixes: readonly string[]): readonly string[] {
  if (document.kind !== 'TrustDomain') return []
  return document.destinations.flatMap(({ cidr }) => {
    const own = prefixes.find(prefix => cidrsOverlap(prefix, cidr))
    const { bits = 0, family = 'ipv4' } = parseCidr(cidr) ?? {}
    return [
      ...(own ? [`${cidr} overlaps ${own}, which is the cluster’s own and wins`] : []),
      ...(bits < WIDE[family]
        ? [`${cidr} is wide: whatever is dialled there must be a workload of ${document.trustDomain}`]
        : []),
    ]
  })
}
