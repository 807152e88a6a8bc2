// One policy ConfigMap as the world keeps it. A version that does not parse changes nothing: the last good one stays in
// force. Where there never was a good one (this replica has just started), nobody knows what it was meant to deny, so it
// denies everything that it could cover.
import type { V1ConfigMap } from '@kubernetes/client-node'
import { describeProblem, type PolicyDocument, unreadable } from '../../shared/policy/document.ts'
import { parsePolicyConfigMap } from '../../shared/policy/parse.ts'

export type PolicyRecord = {
  readonly namespace: string
  readonly name: string
  readonly documents: readonly PolicyDocument[]
  /** One line each; empty if the present version is the one in force. */
  readonly problems: readonly string[]
  readonly inForce: 'present' | 'last good' | 'deny all'
}

export function policyRecord(
  { metadata, data, binaryData }: V1ConfigMap,
  former: PolicyRecord | undefined,
  systemNamespace: string,
): PolicyRecord {
  const namespace = metadata?.namespace ?? ''
  const name = metadata?.name ?? ''
  const parsed = parsePolicyConfigMap({ data, binaryData }, { namespace, systemNamespace })
  if (parsed.kind === 'valid') {
    return { namespace, name, documents: parsed.documents, problems: [], inForce: 'present' }
  }
  const problems = parsed.problems.map(describeProblem)
  if (former && former.inForce !== 'deny all') {
    return { namespace, name, documents: former.documents, problems, inForce: 'last good' }
  }
  return { namespace, name, documents: [unreadable(namespace, name)], problems, inForce: 'deny all' }
}
