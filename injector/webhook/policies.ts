// Answers for policy ConfigMaps: what does not parse never gets in, with every problem named at once.
import { POLICY_LABEL, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { describeProblem } from '../../shared/policy/document.ts'
import { parsePolicyConfigMap } from '../../shared/policy/parse.ts'
import { type AdmissionAnswer, type AdmissionRequest, configMapOf } from './admission.ts'

export async function admitPolicies(request: AdmissionRequest): Promise<AdmissionAnswer> {
  const configMap = configMapOf(request)
  // The label is being removed: nothing of this binds anybody any more.
  if (configMap.metadata?.labels?.[POLICY_LABEL] !== 'true') return { kind: 'allow' }
  const origin = { namespace: request.namespace, systemNamespace: SYSTEM_NAMESPACE }
  const parsed = parsePolicyConfigMap(configMap, origin)
  if (parsed.kind === 'valid') return { kind: 'allow' }
  const message = parsed.problems.map(describeProblem).join('\n')
  return { kind: 'refuse', code: 'PSTN_POLICY_INVALID', message }
}
