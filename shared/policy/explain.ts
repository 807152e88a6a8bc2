// Why a request is decided on as it is: every rule, and which of its parts do not match. Each part is compiled and asked by
// itself with the evaluator's own code, and the decision follows from what is explained: a property test holds it against
// evaluate().
import { type CompiledPolicy, compile, compileRule, compileRules, placeOf } from './compile.ts'
import type { CompiledRule } from './compiled-rule.ts'
import { ruleMatches } from './evaluate.ts'
import { foundInCondition, foundInOperation, foundInSource } from './found.ts'
import type {
  AuthorizationPolicy,
  Condition,
  Decision,
  OperationMatch,
  PolicyRequest,
  PolicySet,
  Rule,
  SourceMatch,
} from './model.ts'
import { obstacleIn } from './obstacle.ts'
import { asksForSegment } from './resource.ts'
import type { Question } from './rule-index.ts'

export type ExplainedField = {
  /** As it is written in YAML. */
  readonly field: string
  readonly values: readonly string[]
  readonly matches: boolean
  /** What the request has there; undefined: that is not known. */
  readonly found: string | undefined
}

/** An entry of `from`, `to` or `when`. */
export type ExplainedPart = {
  readonly at: string
  readonly matches: boolean
  readonly fields: readonly ExplainedField[]
}

export type ExplainedRule = {
  readonly rule: number
  readonly matches: boolean
  /** Of a policy that is not understood: none. */
  readonly from: readonly ExplainedPart[]
  readonly to: readonly ExplainedPart[]
  readonly when: readonly ExplainedPart[]
}

export type ExplainedPolicy = {
  readonly policy: string
  readonly action: AuthorizationPolicy['action']
  /** What of it this build does not know: it refuses whatever it may cover. */
  readonly obstacle?: string
  readonly rules: readonly ExplainedRule[]
}

export type Explanation = {
  /** In the order of their names. */
  readonly policies: readonly ExplainedPolicy[]
  /** Those that decide nothing. */
  readonly watched: readonly ExplainedPolicy[]
  readonly decision: Decision
}

/** `anyRequest`: of a connection whose requests are decided on one by one, as evaluateAnyRequest() does. */
export function explain(
  set: PolicySet,
  own: { readonly trustDomain: string },
  request: PolicyRequest,
  anyRequest = false,
): Explanation {
  const compiled = compile(set, own)
  const asked = (action: 'ALLOW' | 'DENY'): Question => ({
    action,
    caller: compiled.callerOf(request.caller.identity),
    request,
    anyRequest,
  })
  const places = set.policies.map(policy => explainPolicy(policy, asked))
  return {
    policies: places.map(({ explained }) => explained),
    watched: (set.watched ?? []).map(
      policy => explainPolicy(asDecides(policy), asked, policy.action).explained,
    ),
    decision: decisionOf(places, compiled, asked('ALLOW')),
  }
}

/** AUDIT policies are asked as if they denied. */
const asDecides = (policy: AuthorizationPolicy): AuthorizationPolicy =>
  policy.action === 'AUDIT' ? { ...policy, action: 'DENY' } : policy

type Placed = {
  readonly explained: ExplainedPolicy
  readonly place: ReturnType<typeof placeOf>
  readonly compiled: readonly CompiledRule[]
}

function explainPolicy(
  policy: AuthorizationPolicy,
  ask: (action: 'ALLOW' | 'DENY') => Question,
  action = policy.action,
): Placed {
  const place = placeOf(policy)
  const obstacle = obstacleIn(policy)
  const asked = ask(place === 'allow' ? 'ALLOW' : 'DENY')
  const compiled = compileRules(policy)
  const rules = policy.rules.map((rule, index): ExplainedRule => {
    const whole = compiled[index]
    const matches = whole !== undefined && ruleMatches(whole, asked)
    const parts = obstacle === undefined ? partsOf(rule, asked) : NO_PARTS
    return { rule: index, matches, ...parts }
  })
  return {
    place,
    compiled,
    explained: { policy: policy.name, action, ...(obstacle && { obstacle }), rules },
  }
}

const NO_PARTS = { from: [], to: [], when: [] }

function decisionOf(places: readonly Placed[], compiled: CompiledPolicy, { caller }: Question): Decision {
  for (const consulted of ['deny', 'allow', 'unsupported'])
    for (const { place, explained, compiled: rules } of places) {
      if (place !== consulted) continue
      const first = explained.rules.find(({ matches }) => matches)
      const decision = first && rules[first.rule]?.decision
      if (decision) return decision
    }
  return caller?.isForeign ? compiled.otherwiseForeign : compiled.otherwise
}

function partsOf({ from, to, when }: Rule, asked: Question): Pick<ExplainedRule, 'from' | 'to' | 'when'> {
  const segments = (when ?? []).filter(asksForSegment)
  return {
    from: (from ?? []).map((source, index) => explainSource(source, `from[${index}]`, asked)),
    to: (to ?? []).map((operation, index) => explainOperation(operation, segments, `to[${index}]`, asked)),
    when: (when ?? []).flatMap((condition, index) =>
      asksForSegment(condition) ? [] : [explainCondition(condition, `when[${index}]`, asked)],
    ),
  }
}

const holds = (rule: Rule, asked: Question): boolean => ruleMatches(compileRule(rule), asked)

function explainSource(source: SourceMatch, at: string, asked: Question): ExplainedPart {
  const fields = Object.entries(source).map(([field, values]): ExplainedField => {
    const matches = holds({ from: [{ ...besides(asked), [field]: values }] }, asked)
    return { field, values, matches, found: foundInSource(field, asked) }
  })
  const matches = holds({ from: [source] }, asked)
  const isUnnamed = !matches && fields.every(field => field.matches)
  return { at, matches, fields: isUnnamed ? [...fields, UNNAMED] : fields }
}

/**
 * That a source lets nobody foreign in unless it says so is no matter of one field: each is asked beside the caller's own
 * trust domain.
 */
const besides = ({ caller }: Question): SourceMatch =>
  caller === undefined ? {} : { trustDomains: [caller.trustDomain] }

/** What a source lacks that would let in somebody foreign. */
const UNNAMED: ExplainedField = {
  field: 'principals or trustDomains',
  values: [],
  matches: false,
  found: 'no workload of our trust domain',
}

function explainOperation(
  operation: OperationMatch,
  segments: readonly Condition[],
  at: string,
  asked: Question,
): ExplainedPart {
  const { paths } = operation
  const fields = Object.entries(operation).map(
    ([field, values]): ExplainedField => ({
      field,
      values: values.map(String),
      matches: holds({ to: [{ [field]: values }] }, asked),
      found: foundInOperation(field, asked),
    }),
  )
  if (segments.length > 0)
    fields.push({
      field: segments.map(({ key }) => key).join(', '),
      values: segments.flatMap(valuesOf),
      // Beside the paths: it is a pattern that says which segment is meant, for all comparisons together.
      matches: holds({ to: [{ ...(paths && { paths }) }], when: segments }, asked),
      found: foundInOperation('paths', asked),
    })
  return {
    at,
    matches: holds({ to: [operation], ...(segments.length > 0 && { when: segments }) }, asked),
    fields,
  }
}

function explainCondition(condition: Condition, at: string, asked: Question): ExplainedPart {
  const { key } = condition
  const matches = holds({ when: [condition] }, asked)
  const found = foundInCondition(key, asked)
  return { at, matches, fields: [{ field: key, values: valuesOf(condition), matches, found }] }
}

const valuesOf = ({ values = [], notValues = [], equals, notEquals }: Condition): readonly string[] => [
  ...values,
  ...notValues.map(value => `not ${value}`),
  ...(equals ? [equals] : []),
  ...(notEquals ? [`not ${notEquals}`] : []),
]
