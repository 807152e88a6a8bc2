// AuthorizationPolicy, in Istio's fields, to its normalized form. What would mean everybody by accident is refused:
// each such form has another spelling that says so on purpose.
import type { AuthorizationDocument } from './document.ts'
import { featuresOf } from './features.ts'
import type { Action, Rule } from './model.ts'
import { readCondition } from './read-condition.ts'
import { readOperation } from './read-operation.ts'
import { readSelector } from './read-selector.ts'
import { readSource } from './read-source.ts'
import { type Item, isMapping, type Reader } from './reader.ts'
import { segmentProblems } from './segment-problems.ts'

const SPEC_LATER = ['targetRef', 'targetRefs', 'provider']

/** Undefined if anything was reported. `name` is `<namespace>/<name>`. */
export function readAuthorization(
  reader: Reader,
  spec: Item,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): AuthorizationDocument | undefined {
  const fields = reader.mapping(spec, ['selector', 'action', 'rules', 'dryRun'], SPEC_LATER)
  if (fields === undefined) return undefined
  const selector = fields.selector && readSelector(reader, fields.selector)
  const action = fields.action ? reader.oneOf(fields.action, ['ALLOW', 'DENY', 'AUDIT'], ['CUSTOM']) : 'ALLOW'
  const dryRun = fields.dryRun && readDryRun(reader, fields.dryRun, action)
  const rules = readRules(reader, fields.rules, action, spec, namespace)
  if (action === undefined || rules === undefined) return undefined
  return {
    kind: 'AuthorizationPolicy',
    namespace,
    ...(selector && { selector }),
    policy: { kind: 'AuthorizationPolicy', name, action, rules, features: featuresOf(rules) },
    ...((action === 'AUDIT' || dryRun) && { watched: true }),
  }
}

function readDryRun(reader: Reader, item: Item, action: Action | undefined): boolean {
  if (typeof item.value !== 'boolean')
    reader.report(item.path, `${JSON.stringify(item.value)} is neither true nor false`, 'write dryRun: true')
  else if (action === 'AUDIT')
    reader.report(item.path, 'an AUDIT policy decides nothing in any case', 'leave dryRun out')
  return item.value === true
}

const POINTLESS = {
  DENY: 'a DENY policy without rules denies nothing',
  AUDIT: 'an AUDIT policy without rules records nothing',
} as const

function readRules(
  reader: Reader,
  item: Item | undefined,
  action: Action | undefined,
  spec: Item,
  namespace: string,
): readonly Rule[] | undefined {
  const none = item === undefined || (Array.isArray(item.value) && item.value.length === 0)
  if (none && (action === 'DENY' || action === 'AUDIT'))
    reader.report(item?.path ?? spec.path, POINTLESS[action], 'write rules')
  // Istio's spelling of "allow nothing".
  if (none) return []
  return reader.list(item, '', rule => readRule(reader, rule, action === 'DENY', namespace))
}

function readRule(reader: Reader, item: Item, deny: boolean, namespace: string): Rule | undefined {
  const fields = reader.mapping(item, ['from', 'to', 'when'])
  if (fields === undefined) return undefined
  if (deny && fields.from === undefined && fields.to === undefined && fields.when === undefined)
    reader.report(
      item.path,
      'an empty rule of a DENY policy denies everybody',
      'name who or what is denied; to close a pod, write an ALLOW policy without rules',
    )
  const from =
    fields.from &&
    reader.list(fields.from, 'leave from out to mean everybody', entry => {
      const source = reader.mapping(entry, ['source'])?.source
      return source ? readSource(reader, source, namespace) : missing(reader, entry, 'source')
    })
  const to =
    fields.to &&
    reader.list(fields.to, 'leave to out to mean every port', entry => {
      const operation = reader.mapping(entry, ['operation'])?.operation
      return operation ? readOperation(reader, operation) : missing(reader, entry, 'operation')
    })
  const when =
    fields.when &&
    reader.list(fields.when, 'leave when out to mean always', entry =>
      readCondition(reader, entry, namespace),
    )
  const rule = { ...(from && { from }), ...(to && { to }), ...(when && { when }) }
  for (const { at, reason, hint } of segmentProblems(rule)) reader.report([...item.path, ...at], reason, hint)
  return rule
}

function missing(reader: Reader, entry: Item, field: string): undefined {
  if (isMapping(entry.value) && Object.keys(entry.value).length === 0)
    reader.report(entry.path, `has no ${field}`, `write ${field}: {…}`)
  return undefined
}
