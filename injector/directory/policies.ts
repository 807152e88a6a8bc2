// One policy ConfigMap as the world keeps it. A version that does not parse changes nothing: the last good one stays in
// force. Where there never was a good one (this replica has just started), nobody knows what it was meant to deny, so it
// denies everything that it could cover.
import type { V1ConfigMap } from '@kubernetes/client-node'
import { asPosternError } from '../../shared/errors.ts'
import {
  describeProblem,
  type PolicyDocument,
  unreadable,
  unreadableOutside,
} from '../../shared/policy/document.ts'
import { type PolicyOrigin, parsePolicyConfigMap } from '../../shared/policy/parse.ts'
import type { DocumentConfigMap } from '../../shared/policy/yaml-documents.ts'

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
  const parsed = parse({ data, binaryData }, { namespace, systemNamespace })
  if (parsed.kind === 'valid') {
    return { namespace, name, documents: parsed.documents, problems: [], inForce: 'present' }
  }
  const { problems } = parsed
  if (former && former.inForce !== 'deny all') {
    return { namespace, name, documents: former.documents, problems, inForce: 'last good' }
  }
  const documents = [unreadable(namespace, name), unreadableOutside(namespace, name)]
  return { namespace, name, documents, problems, inForce: 'deny all' }
}

type Parsed =
  | { kind: 'valid'; documents: readonly PolicyDocument[] }
  | { kind: 'invalid'; problems: readonly string[] }

/** Whatever one tenant writes must not stop the policies of all others: a failure of the parser is a problem like any. */
function parse(configMap: DocumentConfigMap, origin: PolicyOrigin): Parsed {
  try {
    const parsed = parsePolicyConfigMap(configMap, origin)
    return parsed.kind === 'valid'
      ? parsed
      : { kind: 'invalid', problems: parsed.problems.map(describeProblem) }
  } catch (thrown) {
    return { kind: 'invalid', problems: [asPosternError(thrown, 'PSTN_POLICY_INVALID').message] }
  }
}
