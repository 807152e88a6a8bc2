// Which features an evaluator needs for the rules of a policy: one that lacks any refuses what the policy covers.
import { conditionKey } from './condition-key.ts'
import { FEATURES, type Feature, type OperationMatch, type Rule, type SourceMatch } from './model.ts'
import { isPathTemplate, namesIn } from './path-template.ts'
import { hasHttpField } from './read-operation.ts'

export function featuresOf(rules: readonly Rule[]): Feature[] {
  const sources = rules.flatMap(({ from = [] }) => from)
  const operations = rules.flatMap(({ to = [] }) => to)
  const conditions = rules.flatMap(({ when = [] }) => when)
  const keys = conditions.map(({ key }) => conditionKey(key)?.kind)
  const needed: { readonly [F in Feature]: boolean } = {
    l4: true,
    http: operations.some(hasHttpField) || keys.some(kind => kind === 'header'),
    trustDomains: sources.some(has('trustDomains', 'notTrustDomains')),
    ipBlocks: sources.some(has('ipBlocks', 'notIpBlocks')),
    pathTemplates: operations.some(hasTemplate),
    when: conditions.length > 0,
    requestPrincipals:
      sources.some(has('requestPrincipals', 'notRequestPrincipals')) ||
      keys.some(kind => kind === 'user' || kind === 'claim' || kind === 'segment'),
    pathNames: operations.some(hasNames),
  }
  return FEATURES.filter(feature => needed[feature])
}

const has =
  (...fields: readonly (keyof SourceMatch)[]) =>
  (source: SourceMatch): boolean =>
    fields.some(field => source[field] !== undefined)

const hasTemplate = ({ paths = [], notPaths = [] }: OperationMatch): boolean =>
  [...paths, ...notPaths].some(isPathTemplate)

/** Read as a literal segment, `{id}` would match nothing, and a DENY rule would protect nothing. */
const hasNames = ({ paths = [], notPaths = [] }: OperationMatch): boolean =>
  [...paths, ...notPaths].some(path => namesIn(path).length > 0)
