// What in a policy this build cannot apply. A newer injector is the honest reason for any of it; the evaluator refuses
// whatever such a policy might cover.
import { conditionKey } from './condition-key.ts'
import {
  type AuthorizationPolicy,
  type Condition,
  FEATURES,
  type OperationMatch,
  type Rule,
  type SourceMatch,
} from './model.ts'
import { asksForSegment, isComparable } from './resource.ts'

const KNOWN_FEATURES: ReadonlySet<string> = new Set(FEATURES)
const SOURCE_FIELDS: ReadonlySet<string> = new Set<keyof SourceMatch>([
  'principals',
  'notPrincipals',
  'namespaces',
  'notNamespaces',
  'serviceAccounts',
  'notServiceAccounts',
  'trustDomains',
  'notTrustDomains',
  'ipBlocks',
  'notIpBlocks',
  'requestPrincipals',
  'notRequestPrincipals',
])
const OPERATION_FIELDS: ReadonlySet<string> = new Set<keyof OperationMatch>([
  'ports',
  'notPorts',
  'hosts',
  'notHosts',
  'methods',
  'notMethods',
  'paths',
  'notPaths',
])
const RULE_FIELDS: ReadonlySet<string> = new Set<keyof Rule>(['from', 'to', 'when'])
const CONDITION_FIELDS: ReadonlySet<string> = new Set<keyof Condition>([
  'key',
  'values',
  'notValues',
  'equals',
  'notEquals',
])

/** In words, or undefined if the policy is understood whole. */
export function obstacleIn({ action, features, rules }: AuthorizationPolicy): string | undefined {
  const feature = features.find(name => !KNOWN_FEATURES.has(name))
  if (feature !== undefined) return feature
  if (action !== 'ALLOW' && action !== 'DENY') return `the action ${action}`
  for (const rule of rules) {
    const obstacle =
      unknownField(rule, RULE_FIELDS) ??
      firstObstacle(rule.from, SOURCE_FIELDS, 'an empty from') ??
      firstObstacle(rule.to, OPERATION_FIELDS, 'an empty to') ??
      obstacleInConditions(rule.when) ??
      obstacleInSegments(rule)
    if (obstacle !== undefined) return obstacle
  }
  return undefined
}

function firstObstacle(
  entries: readonly object[] | undefined,
  known: ReadonlySet<string>,
  empty: string,
): string | undefined {
  if (entries === undefined) return undefined
  if (entries.length === 0) return empty
  for (const entry of entries) {
    const field = unknownField(entry, known)
    if (field !== undefined) return field
    const lists = Object.values(entry)
    if (lists.length === 0 || !lists.every(isFilled)) return empty
  }
  return undefined
}

function obstacleInConditions(conditions: readonly Condition[] | undefined): string | undefined {
  if (conditions === undefined) return undefined
  if (conditions.length === 0) return 'an empty when'
  for (const condition of conditions) {
    const obstacle = obstacleInCondition(condition)
    if (obstacle !== undefined) return obstacle
  }
  return undefined
}

function obstacleInCondition(condition: Condition): string | undefined {
  const { key, equals, notEquals, ...lists } = condition
  const field = unknownField(condition, CONDITION_FIELDS)
  if (field !== undefined) return field
  if (conditionKey(key) === undefined) return `the condition ${key}`
  const given = Object.values(lists)
  const compared = [equals, notEquals].filter(other => other !== undefined)
  if (asksForSegment(condition)) {
    if (given.length > 0 || compared.length === 0) return `the condition ${key} in this form`
    const other = compared.find(name => !isComparable(name))
    return other && `a comparison with ${other}`
  }
  if (compared.length > 0) return `the condition ${key} in this form`
  return given.length === 0 || !given.every(isFilled) ? 'an empty condition' : undefined
}

/** A segment of no path, which no reader lets through. */
const obstacleInSegments = ({ to, when = [] }: Rule): string | undefined =>
  when.some(asksForSegment) && !to?.every(({ paths }) => paths !== undefined)
    ? 'a segment of a path that is not given'
    : undefined

/** Whether the ports of a `to` that holds more than we know may be believed. */
export const readable = (to: readonly OperationMatch[]): boolean =>
  to.length > 0 && to.every(entry => Object.values(entry).every(isFilled))

const isFilled = (list: unknown): boolean => Array.isArray(list) && list.length > 0

const unknownField = (value: object, known: ReadonlySet<string>): string | undefined => {
  const field = Object.keys(value).find(key => !known.has(key))
  return field === undefined ? undefined : `the field ${field}`
}
