// Finds the first rule that matches without walking all of them: rules that name their callers exactly are found by the
// caller, others that name their ports by the port; what is left (patterns, `not…`) is walked. An index holds no more
// entries than the policies have values, so that no document costs more than its length.
import type { CompiledRule } from './compiled-rule.ts'
import type { Asked } from './condition.ts'
import type { CompiledSource } from './source-match.ts'
import type { StringSet } from './string-set.ts'

/** In the order in which rules are consulted, across all lists. */
export type IndexedRule = CompiledRule & { readonly order: number }

export type RuleIndex = {
  /** Principals, namespaces and service accounts together: a rule that is found by mistake does not match. */
  readonly byCaller: ReadonlyMap<string, readonly IndexedRule[]>
  readonly byPort: ReadonlyMap<number, readonly IndexedRule[]>
  readonly others: readonly IndexedRule[]
}

/** `anybody`: for callers that are not known, whom every `from` may mean. */
export function indexRules(rules: readonly CompiledRule[], whom: 'callers' | 'anybody'): RuleIndex {
  const byCaller = new Map<string, IndexedRule[]>()
  const byPort = new Map<number, IndexedRule[]>()
  const others: IndexedRule[] = []
  for (const [order, rule] of rules.entries()) {
    const indexed = { ...rule, order }
    const callers = whom === 'callers' ? exactCallers(rule) : undefined
    const ports = exactPorts(rule)
    if (callers) for (const caller of callers) append(byCaller, caller, indexed)
    else if (ports) for (const port of ports) append(byPort, port, indexed)
    else others.push(indexed)
  }
  return { byCaller, byPort, others }
}

/** What is asked of each rule. Handed on instead of a closure, since it is asked for each request. */
export type Question = Asked

export type Matches = (rule: CompiledRule, question: Question) => boolean

/** The first rule, in the order of the policies, that `matches`. */
export function findRule(
  { byCaller, byPort, others }: RuleIndex,
  matches: Matches,
  question: Question,
): CompiledRule | undefined {
  const { caller, request } = question
  let first = earlier(others, undefined, matches, question)
  first = earlier(byPort.get(request.port), first, matches, question)
  if (caller === undefined) return first
  first = earlier(byCaller.get(caller.principal), first, matches, question)
  if (caller.own === undefined) return first
  first = earlier(byCaller.get(caller.own.account), first, matches, question)
  return earlier(byCaller.get(caller.own.namespace), first, matches, question)
}

function earlier(
  rules: readonly IndexedRule[] | undefined,
  first: IndexedRule | undefined,
  matches: Matches,
  question: Question,
): IndexedRule | undefined {
  if (rules === undefined) return first
  for (const rule of rules) {
    if (first !== undefined && rule.order > first.order) return first
    if (matches(rule, question)) return rule
  }
  return first
}

/** Undefined unless each source names somebody exactly. */
function exactCallers({ from }: CompiledRule): Set<string> | undefined {
  if (from === undefined) return undefined
  const callers = new Set<string>()
  for (const source of from) {
    const values = exactValues(source)
    if (values === undefined) return undefined
    for (const value of values) callers.add(value)
  }
  return callers
}

const exactValues = ({
  principals,
  serviceAccounts,
  namespaces,
}: CompiledSource): ReadonlySet<string> | undefined =>
  [principals, serviceAccounts, namespaces].find(set => set !== undefined && isExact(set))?.exact

const isExact = ({ prefixes, suffixes, present }: StringSet): boolean =>
  prefixes.length === 0 && suffixes.length === 0 && !present

function exactPorts({ to }: CompiledRule): Set<number> | undefined {
  if (to === undefined || !to.every(({ ports }) => ports !== undefined)) return undefined
  return new Set(to.flatMap(({ ports }) => [...(ports ?? [])]))
}

function append<K>(lists: Map<K, IndexedRule[]>, key: K, rule: IndexedRule): void {
  lists.getOrInsertComputed(key, () => []).push(rule)
}
