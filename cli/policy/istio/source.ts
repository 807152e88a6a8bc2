// Who calls, of Istio's, in `from` and in `when`. Its namespaces and service accounts are those of any trust domain, ours those
// of our own: where a DENY named them, callers of other trust domains are denied as well.
import { canonicalCidr } from '../../../shared/cidr.ts'
import { type Item, isMapping, type Path } from '../../../shared/policy/reader.ts'
import { type IstioAction, isEmpty, type Original } from './original.ts'

type Lists = { readonly [field: string]: unknown }
type Condition = { readonly key: string; readonly values?: unknown; readonly notValues?: unknown }
export type Rule = {
  readonly from?: readonly { readonly source: Lists }[]
  readonly to?: readonly { readonly operation: object }[]
  readonly when?: readonly Condition[]
}

const FIELDS = [
  'principals',
  'requestPrincipals',
  'namespaces',
  'serviceAccounts',
  'trustDomains',
  'ipBlocks',
  'remoteIpBlocks',
] as const
const SOURCE = FIELDS.flatMap(name => [name, `not${name.charAt(0).toUpperCase()}${name.slice(1)}`])

export function convertSource(original: Original, item: Item): Lists | undefined {
  const { reader } = original
  const fields = reader.mapping(item, SOURCE)
  if (fields === undefined) return undefined
  const given = Object.entries(fields).filter(([, field]) => !isEmpty(field?.value))
  for (const [name, field] of given)
    if (field && /remoteIpBlocks/i.test(name))
      reader.report(
        field.path,
        'would believe x-forwarded-for, which any caller may write: it has no equal here',
        'write ipBlocks by hand, of the address that connects',
      )
  return Object.fromEntries(
    given.map(([name, field]) => [asKnown(name), valuesOf(name, field?.value, original)]),
  )
}

/** What is refused stands in for what our reader knows, which goes on to all that is wrong beside it. */
const asKnown = (name: string): string => name.replace('remoteIp', 'ip').replace('RemoteIp', 'Ip')

/** In our spelling; what is wrong is left for our reader to say. */
function valuesOf(field: string, value: unknown, { namespace }: Original): unknown {
  if (!Array.isArray(value)) return value
  const spelt = (text: unknown): unknown => {
    if (typeof text !== 'string') return text
    if (/serviceAccounts$/i.test(field)) return text.includes('/') ? text : `${namespace}/${text}`
    return /ipBlocks$/i.test(field) && text.includes('/') ? (canonicalCidr(text) ?? text) : text
  }
  return value.map(spelt)
}

/** Keys of conditions that have values to be spelt as a field's. */
const AS_FIELD: Readonly<Record<string, string>> = {
  'source.ip': 'ipBlocks',
  'destination.ip': 'ipBlocks',
  'source.serviceAccount': 'serviceAccounts',
}

export function convertWhen(original: Original, item: Item): Condition | undefined {
  const { reader } = original
  const fields = reader.mapping(item, ['key', 'values', 'notValues'])
  if (fields === undefined) return undefined
  const key = String(fields.key?.value ?? '')
  // Istio takes it apart at its blanks, as it does `scope`.
  if (key === 'request.auth.claims[permission]')
    reader.report(
      item.path,
      `${key} is a list with blanks to Istio, and one text here`,
      'ask for another claim',
    )
  const field = AS_FIELD[key] ?? ''
  const list = (one: Item | undefined) =>
    isEmpty(one?.value) ? undefined : valuesOf(field, one?.value, original)
  const [values, notValues] = [list(fields.values), list(fields.notValues)]
  return { key, ...(values !== undefined && { values }), ...(notValues !== undefined && { notValues }) }
}

const ofOurs = ({ namespaces, serviceAccounts }: Lists): boolean =>
  namespaces !== undefined || serviceAccounts !== undefined
const OF_OURS = ['source.namespace', 'source.serviceAccount']

/** What a DENY rule must match beside itself, to match no less than it did. */
export function withTwins(
  { trustDomain, note }: Original,
  rule: Rule,
  action: IstioAction,
  path: Path,
): readonly Rule[] {
  if (action !== 'DENY') return []
  const foreign = { notTrustDomains: [trustDomain] }
  const sources = (rule.from ?? []).filter(({ source }) => isMapping(source) && ofOurs(source))
  const asks = (rule.when ?? []).filter(({ key, values }) => OF_OURS.includes(key) && values !== undefined)
  if (sources.length + asks.length === 0) return []
  note(
    path,
    `denies callers of other trust domains than ${trustDomain} too: their namespaces are none of ours`,
  )
  const when = (rule.when ?? []).map(condition =>
    asks.includes(condition) ? { key: 'source.trustDomain', notValues: [trustDomain] } : condition,
  )
  const from = (rule.from ?? []).map(({ source }) => {
    if (!isMapping(source) || !ofOurs(source)) return { source }
    const { namespaces: _, serviceAccounts: __, notTrustDomains = [], ...rest } = source
    return { source: { ...rest, notTrustDomains: [notTrustDomains, foreign.notTrustDomains].flat() } }
  })
  return [{ ...rule, ...(rule.from && { from }), ...(rule.when && { when }) }]
}
