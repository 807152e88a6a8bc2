// The `when` of a rule, compiled and matched: every condition must hold. What is not known never helps the caller, as in
// the other fields; but a header that a request does not have is known to be absent.
import { type ConditionKey, conditionKey } from './condition-key.ts'
import type { AuthorizationPolicy, Condition, PolicyRequest } from './model.ts'
import {
  type CompiledSource,
  compileBlocks,
  compileSource,
  type KnownCaller,
  sourceMatches,
} from './source-match.ts'
import { compileStrings, includes, type StringSet } from './string-set.ts'

type Sides<T> = { readonly wanted: T | undefined; readonly unwanted: T | undefined }

export type CompiledCondition =
  | { readonly kind: 'source'; readonly source: CompiledSource }
  | ({ readonly kind: 'port' } & Sides<ReadonlySet<number>>)
  | ({ readonly kind: 'address' } & Sides<(address: string) => boolean>)
  | ({ readonly kind: 'header'; readonly name: string } & Sides<StringSet>)

/** @throws TypeError for a key that this build does not know: whoever compiles has looked for them before. */
export function compileCondition(condition: Condition): CompiledCondition {
  const { key, values, notValues } = condition
  const known = conditionKey(key)
  if (known === undefined) throw new TypeError(`unknown condition ${key}`)
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
  }
}

const sourceOf = (
  { field, not }: Extract<ConditionKey, { readonly kind: 'source' }>,
  { values, notValues }: Condition,
) => ({ ...(values && { [field]: values }), ...(notValues && { [not]: notValues }) })

/** `anyRequest`: of all requests on a connection, the one that fares best. */
export type Asked = {
  readonly action: AuthorizationPolicy['action']
  readonly caller: KnownCaller | undefined
  readonly request: PolicyRequest
  readonly anyRequest: boolean
}

export function conditionHolds(condition: CompiledCondition, asked: Asked): boolean {
  const { action, caller, request } = asked
  switch (condition.kind) {
    case 'source':
      return sourceMatches(condition.source, action, caller, request.caller.address)
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
