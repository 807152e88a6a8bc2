// What the rules of several policies ask for, field by field: all that representatives are made from.
import { conditionKey } from '../../../shared/policy/condition-key.ts'
import type { Condition, PolicySet } from '../../../shared/policy/model.ts'

export type Written = {
  readonly principals: readonly string[]
  readonly namespaces: readonly string[]
  readonly serviceAccounts: readonly string[]
  readonly trustDomains: readonly string[]
  readonly ipBlocks: readonly string[]
  readonly destinations: readonly string[]
  readonly ports: readonly number[]
  readonly methods: readonly string[]
  readonly paths: readonly string[]
  readonly hosts: readonly string[]
  /** By name. */
  readonly headers: ReadonlyMap<string, readonly string[]>
  readonly users: readonly string[]
  /** By the key of the condition. */
  readonly claims: ReadonlyMap<string, readonly string[]>
  /** Segments of paths that conditions compare, and with what. */
  readonly segments: readonly { readonly name: string; readonly key: string }[]
  /** Whether some port takes TLS without a tunnel. */
  readonly hasTlsPorts: boolean
}

export function writtenIn(sets: readonly PolicySet[]): Written {
  const policies = sets.flatMap(({ policies }) => policies)
  const rules = policies.flatMap(({ rules }) => rules)
  const conditions = rules.flatMap(({ when = [] }) => when)
  const sources = [...rules.flatMap(({ from = [] }) => from), ...conditions.flatMap(asSource)]
  const operations = rules.flatMap(({ to = [] }) => to)
  const valuesOf = (kind: string) =>
    conditions.filter(({ key }) => conditionKey(key)?.kind === kind).flatMap(bothLists)
  return {
    principals: distinct(sources.flatMap(one => [...(one.principals ?? []), ...(one.notPrincipals ?? [])])),
    namespaces: distinct(sources.flatMap(one => [...(one.namespaces ?? []), ...(one.notNamespaces ?? [])])),
    serviceAccounts: distinct(
      sources.flatMap(one => [...(one.serviceAccounts ?? []), ...(one.notServiceAccounts ?? [])]),
    ),
    trustDomains: distinct(
      sources.flatMap(one => [...(one.trustDomains ?? []), ...(one.notTrustDomains ?? [])]),
    ),
    ipBlocks: distinct(sources.flatMap(one => [...(one.ipBlocks ?? []), ...(one.notIpBlocks ?? [])])),
    destinations: distinct(valuesOf('address')),
    ports: distinct([
      ...operations.flatMap(one => [...(one.ports ?? []), ...(one.notPorts ?? [])]),
      ...valuesOf('port').map(Number),
      ...sets.flatMap(({ mode }) => Object.keys({ ...mode.ports, ...mode.tls }).map(Number)),
    ]),
    methods: distinct(operations.flatMap(one => [...(one.methods ?? []), ...(one.notMethods ?? [])])),
    paths: distinct(operations.flatMap(one => [...(one.paths ?? []), ...(one.notPaths ?? [])])),
    hosts: distinct(operations.flatMap(one => [...(one.hosts ?? []), ...(one.notHosts ?? [])])),
    headers: byName(conditions, 'header'),
    users: distinct([
      ...sources.flatMap(one => [...(one.requestPrincipals ?? []), ...(one.notRequestPrincipals ?? [])]),
      ...valuesOf('user'),
    ]),
    claims: byName(conditions, 'claim'),
    segments: conditions.flatMap(segmentsOf),
    hasTlsPorts: sets.some(({ mode }) => mode.tls !== undefined),
  }
}

const distinct = <T>(values: readonly T[]): readonly T[] => [...new Set(values)]

const bothLists = ({ values = [], notValues = [] }: Condition): readonly string[] => [...values, ...notValues]

function asSource({ key, ...lists }: Condition): readonly { readonly [field: string]: readonly string[] }[] {
  const known = conditionKey(key)
  return known?.kind === 'source' ? [{ [known.field]: bothLists({ key, ...lists }) }] : []
}

function byName(
  conditions: readonly Condition[],
  kind: 'header' | 'claim',
): ReadonlyMap<string, readonly string[]> {
  const lists = new Map<string, readonly string[]>()
  for (const condition of conditions) {
    const known = conditionKey(condition.key)
    if (known?.kind !== kind) continue
    const name = known.kind === 'header' ? known.name : condition.key
    lists.set(name, distinct([...(lists.get(name) ?? []), ...bothLists(condition)]))
  }
  return lists
}

function segmentsOf({ key, equals, notEquals }: Condition): Written['segments'] {
  const known = conditionKey(key)
  if (known?.kind !== 'segment') return []
  const { name } = known
  return [equals, notEquals].flatMap(other => (other === undefined ? [] : [{ name, key: other }]))
}
