// A PolicySet turned into what evaluate() walks: sets instead of lists, the answers made beforehand, so that a decision
// allocates nothing. Whatever this build does not understand is compiled to a refusal of all that it might cover.
import { parseSpiffeId, workloadOf } from '../spiffe-id.ts'
import type { CompiledRule } from './compiled-rule.ts'
import { compileCondition } from './condition.ts'
import { type CompiledOperation, compileHttp } from './http-match.ts'
import type {
  AuthorizationPolicy,
  Decision,
  EffectiveMode,
  OperationMatch,
  PolicySet,
  Rule,
} from './model.ts'
import { obstacleIn, readable } from './obstacle.ts'
import { asksForSegment, compileResource } from './resource.ts'
import { indexRules, type RuleIndex } from './rule-index.ts'
import { compileSource, type KnownCaller } from './source-match.ts'

/** Each is asked as if it decided. */
export type CompiledWatch = {
  /** AUDIT policies as DENY policies: what they refuse is recorded. */
  readonly audit?: CompiledPolicy
  /** The policies in force and the dry runs together. */
  readonly dryRun?: CompiledPolicy
}

export type CompiledPolicy = {
  readonly mode: EffectiveMode
  /** In the order in which they are consulted; the first match decides. */
  readonly deny: RuleIndex
  /** The same rules for callers that are not known: each `from` may mean them. */
  readonly denyUnknown: RuleIndex
  readonly allow: RuleIndex
  /** ALLOW policies that this build cannot apply: they allow nothing, and say why where they might have. */
  readonly unsupported: RuleIndex
  /** What holds when no rule matches. */
  readonly otherwise: Decision
  /** The same for callers of other trust domains: the mesh's default is not for them. */
  readonly otherwiseForeign: Decision
  /** Whether any rule asks for headers of requests. */
  readonly readsHeaders: boolean
  /** What decides nothing; absent where there is none. */
  readonly watch?: CompiledWatch
  /** Undefined for plaintext peers, and for what is no SPIFFE ID. */
  readonly callerOf: (identity: string | undefined) => KnownCaller | undefined
}

export function compile(set: PolicySet, { trustDomain }: { readonly trustDomain: string }): CompiledPolicy {
  const lists: { readonly [P in Place]: CompiledRule[] } = { deny: [], allow: [], unsupported: [] }
  for (const policy of set.policies) lists[placeOf(policy)].push(...compileRules(policy))
  const { deny, allow, unsupported } = lists
  const watch = compileWatched(set, { trustDomain })
  return {
    mode: set.mode,
    deny: indexRules(deny, 'callers'),
    denyUnknown: indexRules(deny, 'anybody'),
    allow: indexRules(allow, 'callers'),
    unsupported: indexRules(unsupported, 'callers'),
    otherwise: otherwise(set),
    otherwiseForeign: otherwise({ ...set, defaultAction: 'deny' }, FOREIGN_DEFAULT),
    readsHeaders:
      [...deny, ...allow].some(({ when }) => when?.some(({ kind }) => kind === 'header')) ||
      [watch?.audit, watch?.dryRun].some(compiled => compiled?.readsHeaders),
    ...(watch && { watch }),
    callerOf: callers(trustDomain),
  }
}

type Place = 'deny' | 'allow' | 'unsupported'

/** Among which rules those of a policy are consulted. */
export function placeOf(policy: AuthorizationPolicy): Place {
  if (policy.action !== 'ALLOW') return 'deny'
  return obstacleIn(policy) === undefined ? 'allow' : 'unsupported'
}

/** One for each rule of the policy, in their order. */
export function compileRules(policy: AuthorizationPolicy): CompiledRule[] {
  const obstacle = obstacleIn(policy)
  if (obstacle !== undefined) return refusals(policy, obstacle)
  const compileOne = policy.action === 'DENY' ? denies : allows
  return policy.rules.map((rule, index) => compileOne(policy, rule, index))
}

function compileWatched(
  { watched = [], ...set }: PolicySet,
  own: { readonly trustDomain: string },
): CompiledWatch | undefined {
  if (watched.length === 0) return undefined
  const audits = watched.filter(({ action }) => action === 'AUDIT')
  const dryRuns = watched.filter(({ action }) => action !== 'AUDIT')
  const denying = audits.map((policy): AuthorizationPolicy => ({ ...policy, action: 'DENY' }))
  return {
    ...(audits.length > 0 && { audit: compile({ ...set, policies: denying }, own) }),
    ...(dryRuns.length > 0 && { dryRun: compile({ ...set, policies: [...set.policies, ...dryRuns] }, own) }),
  }
}

function allows(policy: AuthorizationPolicy, rule: Rule, index: number): CompiledRule {
  return { ...compileRule(rule), decision: { allow: true, policy: policy.name, rule: index } }
}

function denies(policy: AuthorizationPolicy, rule: Rule, index: number): CompiledRule {
  const decision: Decision = {
    allow: false,
    code: 'PSTN_POLICY_DENIED',
    policy: policy.name,
    rule: index,
    reason: `DENY policy ${policy.name}, rule ${index}`,
  }
  return { ...compileRule(rule), decision }
}

/**
 * Without `from`: who is meant cannot be known. `to` can only be narrowed by what we do not understand, but of what we do
 * understand only ports mean the same whatever the features are: a pattern may have got a wider meaning.
 */
function refusals({ name, rules }: AuthorizationPolicy, obstacle: string): CompiledRule[] {
  const decision: Decision = {
    allow: false,
    code: 'PSTN_POLICY_UNSUPPORTED',
    policy: name,
    reason: `policy ${name} needs ${obstacle}, which this sidecar does not know`,
  }
  return rules.map(({ to }) => ({ ...(to && readable(to) && { to: to.map(compilePorts) }), decision }))
}

const OWN_DEFAULT = 'the default is deny'
const FOREIGN_DEFAULT = 'callers of other trust domains need a rule that allows them'

function otherwise({ policies, defaultAction }: PolicySet, why = OWN_DEFAULT): Decision {
  const names = policies.filter(({ action }) => action === 'ALLOW').map(({ name }) => name)
  const [only] = names
  if (only === undefined)
    return defaultAction === 'allow'
      ? { allow: true }
      : {
          allow: false,
          code: 'PSTN_POLICY_DENIED',
          reason: `no ALLOW policy selects this pod, and ${why}`,
        }
  const reason = `no rule of an ALLOW policy matches: ${names.slice(0, 5).join(', ')}${names.length > 5 ? ' …' : ''}`
  return { allow: false, code: 'PSTN_POLICY_DENIED', reason, ...(names.length === 1 && { policy: only }) }
}

export function compileRule({ from, to, when }: Rule): Omit<CompiledRule, 'decision'> {
  const resource = compileResource(to, when, compilePorts)
  const others = when?.filter(condition => !asksForSegment(condition))
  return {
    ...(from && { from: from.map(compileSource) }),
    ...(to && { to: to.map(compileOperation) }),
    ...(resource && { resource }),
    ...(others && { when: others.map(compileCondition) }),
  }
}

const compileOperation = (operation: OperationMatch): CompiledOperation => ({
  ...compilePorts(operation),
  http: compileHttp(operation),
})

const compilePorts = ({ ports, notPorts }: OperationMatch): CompiledOperation => ({
  ...(ports && { ports: new Set(ports) }),
  ...(notPorts && { notPorts: new Set(notPorts) }),
})

/** Identities repeat: the last ones are remembered parsed. */
const REMEMBERED = 1024

function callers(trustDomain: string): CompiledPolicy['callerOf'] {
  const known = new Map<string, KnownCaller | undefined>()
  return identity => {
    if (identity === undefined) return undefined
    if (known.has(identity)) return known.get(identity)
    const caller = knownCaller(identity, trustDomain)
    if (known.size >= REMEMBERED) known.clear()
    known.set(identity, caller)
    return caller
  }
}

function knownCaller(identity: string, ownTrustDomain: string): KnownCaller | undefined {
  try {
    const { id, trustDomain } = parseSpiffeId(identity)
    const caller = { principal: identity.slice('spiffe://'.length), trustDomain }
    if (trustDomain !== ownTrustDomain) return { ...caller, isForeign: true }
    const workload = workloadOf(id)
    if (!workload) return { ...caller, isForeign: false }
    const { namespace, serviceAccount } = workload
    return { ...caller, isForeign: false, own: { namespace, account: `${namespace}/${serviceAccount}` } }
  } catch {
    return undefined
  }
}
