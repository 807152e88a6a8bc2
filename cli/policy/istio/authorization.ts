// AuthorizationPolicy of Istio's to the spec of ours. The fields are the same; where they mean something else, an ALLOW must
// not match more than it did, and a DENY not less.
import type { Item, Reader } from '../../../shared/policy/reader.ts'
import { convertHosts } from './hosts.ts'
import { ACTIONS, type IstioAction, isEmpty, type Original, selectorOf } from './original.ts'
import { convertSource, convertWhen, type Rule, withTwins } from './source.ts'

const DRY_RUN = 'istio.io/dry-run'
/** As Istio reads it: Go's strconv.ParseBool. */
const TRUE = /^(1|t|T|true|TRUE|True)$/

/** A rule that matches everybody, which ours must not do by leaving everything out. */
const EVERYBODY: Rule = { from: [{ source: { ipBlocks: ['0.0.0.0/0', '::/0'] } }] }

export function convertAuthorization(original: Original): object | undefined {
  const { reader, spec, annotations, note } = original
  const fields = reader.mapping(spec, ['selector', 'action', 'rules', 'targetRef', 'targetRefs', 'provider'])
  if (fields === undefined) return undefined
  for (const name of ['targetRef', 'targetRefs', 'provider'] as const)
    if (fields[name] && !isEmpty(fields[name].value))
      reader.report(fields[name].path, 'has no equal here', 'write a policy with a selector by hand')
  const action = readAction(reader, fields.action) ?? 'DENY'
  const rules = readRules(original, fields.rules, action)
  if (rules === undefined) return undefined
  if (action !== 'ALLOW' && rules.length === 0) {
    note(spec.path, `${action} without rules matches nothing: left out`)
    return undefined
  }
  const isDryRun = TRUE.test(String(annotations[DRY_RUN] ?? ''))
  if (isDryRun && action === 'AUDIT')
    note(spec.path, 'an AUDIT policy decides nothing in any case: no dryRun')
  return {
    ...selectorOf(fields.selector),
    action,
    ...(isDryRun && action !== 'AUDIT' && { dryRun: true }),
    ...(rules.length > 0 && { rules }),
  }
}

function readAction(reader: Reader, item: Item | undefined): IstioAction | undefined {
  if (item === undefined || isEmpty(item.value)) return 'ALLOW'
  if (item.value !== 'CUSTOM') return reader.oneOf(item, ACTIONS)
  reader.report(item.path, 'CUSTOM has no equal here', 'nobody outside is asked: write ALLOW and DENY rules')
  return undefined
}

function readRules(
  original: Original,
  item: Item | undefined,
  action: IstioAction,
): readonly Rule[] | undefined {
  if (item === undefined || isEmpty(item.value)) return []
  const { reader } = original
  const rules = reader.list(item, '', entry => readRule(original, entry, action))
  // Behind the others: every rule keeps its place.
  return (
    rules && [
      ...rules,
      ...rules.flatMap((rule, index) => withTwins(original, rule, action, [...item.path, index])),
    ]
  )
}

function readRule(original: Original, item: Item, action: IstioAction): Rule | undefined {
  const { reader, note } = original
  const entry = { ...item, value: item.value ?? {} }
  const fields = reader.mapping(entry, ['from', 'to', 'when'])
  if (fields === undefined) return undefined
  const listOf = <T>(field: Item | undefined, read: (item: Item) => T | undefined) =>
    field && !isEmpty(field.value) ? reader.list(field, '', read) : undefined
  const from = listOf(fields.from, one => inner(reader, one, 'source', item => convertSource(original, item)))
  const to = listOf(fields.to, one =>
    inner(reader, one, 'operation', item => convertOperation(original, item, action)),
  )
  const when = listOf(fields.when, one => convertWhen(original, one))
  if (action === 'DENY' && [fields.from, fields.to, fields.when].every(field => isEmpty(field?.value))) {
    note(item.path, 'denies everybody: written as every address')
    return EVERYBODY
  }
  return {
    ...(from && { from: from.map(source => ({ source })) }),
    ...(to && { to: to.map(operation => ({ operation })) }),
    ...(when && { when }),
  }
}

/** What stands alone in an entry of `from` or `to`. */
function inner<T>(
  reader: Reader,
  item: Item,
  name: 'source' | 'operation',
  convert: (item: Item) => T | undefined,
): T | undefined {
  const field = reader.mapping(item, [name])?.[name]
  if (field === undefined) reader.report(item.path, `has no ${name}`, 'Istio refuses this too')
  return field && convert(field)
}

const OPERATION = [
  'ports',
  'notPorts',
  'methods',
  'notMethods',
  'paths',
  'notPaths',
  'hosts',
  'notHosts',
] as const

function convertOperation(original: Original, item: Item, action: IstioAction): object | undefined {
  const fields = original.reader.mapping(item, OPERATION)
  if (fields === undefined) return undefined
  const entries = OPERATION.flatMap(name => {
    const field = fields[name]
    if (field === undefined || isEmpty(field.value)) return []
    const isHost = name === 'hosts' || name === 'notHosts'
    return [[name, isHost ? convertHosts(original, field, action, name) : field.value] as const]
  })
  return Object.fromEntries(entries)
}
