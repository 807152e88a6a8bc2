// The `when` of a rule, compiled and matched: every condition must hold. What is not known never helps the caller, as in
// the other fields; but a header that a request does not have is known to be absent.
import { type ConditionKey, conditionKey } from './condition-key.ts'
import { type ClaimPath, claimValues } from './end-user.ts'
import type { Condition, PolicyRequest } from './model.ts'
import {
  type AskedSource,
  type CompiledSource,
  compileBlocks,
  compileSource,
  sourceMatches,
  userMatches,
} from './source-match.ts'
import { compileStrings, includes, type StringSet } from './string-set.ts'

type Sides<T> = { readonly wanted: T | undefined; readonly unwanted: T | undefined }

export type CompiledCondition =
  | { readonly kind: 'source'; readonly source: CompiledSource }
  | ({ readonly kind: 'port' } & Sides<ReadonlySet<number>>)
  | ({ readonly kind: 'address' } & Sides<(address: string) => boolean>)
  | ({ readonly kind: 'header'; readonly name: string } & Sides<StringSet>)
  | ({ readonly kind: 'user' } & Sides<StringSet>)
  | ({ readonly kind: 'claim'; readonly claim: ClaimPath } & Sides<StringSet>)

/**
 * Any but those of segments, which are of the operation (resource.ts).
 * @throws TypeError for a key that this build does not know: whoever compiles has looked for them before.
 */
export function compileCondition(condition: Condition): CompiledCondition {
  const { key, values, notValues } = condition
  const known = conditionKey(key)
  if (known === undefined || known.kind === 'segment') throw new TypeError(`unknown condition ${key}`)
  const sides = <T>(compile: (list: readonly string[]) => T): Sides<T> => ({
    wanted: values && compile(values),
    unwanted: notValues && compile(notValues),
  })
  switch (known.kind) {
    case 'source':
      return { kind: 'source', source: compileSource(sourceOf(known, condition)) }
    case 'port':
      return { kind: 'port', ...sides(list => new Set(list.map(Number))) }
    case 'address':
      return { kind: 'address', ...sides(compileBlocks) }
    case 'header':
      return { kind: 'header', name: known.name, ...sides(compileStrings) }
    case 'user':
      return { kind: 'user', ...sides(compileStrings) }
    case 'claim':
      return { kind: 'claim', claim: known.claim, ...sides(compileStrings) }
  }
}

const sourceOf = (
  { field, not }: Extract<ConditionKey, { readonly kind: 'source' }>,
  { values, notValues }: Condition,
) => ({ ...(values && { [field]: values }), ...(notValues && { [not]: notValues }) })

export type Asked = Omit<AskedSource, 'request'> & { readonly request: PolicyRequest }

export function conditionHolds(condition: CompiledCondition, asked: Asked): boolean {
  const { action, request } = asked
  switch (condition.kind) {
    case 'source':
      return sourceMatches(condition.source, asked)
    case 'port':
      return (
        (condition.wanted?.has(request.port) ?? true) && !(condition.unwanted?.has(request.port) ?? false)
      )
    case 'address':
      if (request.address === undefined) return action === 'DENY'
      return (
        (condition.wanted?.(request.address) ?? true) && !(condition.unwanted?.(request.address) ?? false)
      )
    case 'header':
      return headerHolds(condition, asked)
    case 'user':
      return userMatches(condition, asked)
    case 'claim':
      return claimHolds(condition, asked)
  }
}

function headerHolds(
  { name, wanted, unwanted }: Extract<CompiledCondition, { readonly kind: 'header' }>,
  { action, request: { http }, anyRequest }: Asked,
): boolean {
  if (anyRequest) return action === 'ALLOW'
  const value = http?.headers === undefined ? null : http.headers.get(name)
  // Opaque bytes, or more than one line of that name: the application may take either.
  if (value === null) return action === 'DENY'
  if (value === undefined) return wanted === undefined
  return (wanted === undefined || includes(wanted, value)) && !(unwanted && includes(unwanted, value))
}

/** Of a list any value is enough. */
function claimHolds(
  { claim, wanted, unwanted }: Extract<CompiledCondition, { readonly kind: 'claim' }>,
  { action, request: { http }, anyRequest }: Asked,
): boolean {
  if (anyRequest) return action === 'ALLOW'
  const values = http?.user && claimValues(http.user, claim)
  if (http?.user === undefined || values === null) return action === 'DENY'
  if (values === undefined) return wanted === undefined
  return (
    (wanted === undefined || values.some(value => includes(wanted, value))) &&
    !(unwanted && values.some(value => includes(unwanted, value)))
  )
}
