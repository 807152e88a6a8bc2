// An operation whose rule asks for a segment of the path: the resource must be the user's, or must not. Segment and claim are
// compared for each pattern that matches, since it is the pattern that says which segment is meant.
import type { Asked } from './condition.ts'
import { conditionKey } from './condition-key.ts'
import { type ClaimPath, type ClaimValues, claimValues, type EndUser } from './end-user.ts'
import {
  type CompiledOperation,
  compileHttp,
  compilePaths,
  httpMatches,
  includesPath,
  type PathSet,
} from './http-match.ts'
import type { AuthorizationPolicy, Condition, HttpRequest, OperationMatch } from './model.ts'
import { compileTemplate, isPathTemplate } from './path-template.ts'

type Comparison = {
  readonly name: string
  /** Whose values; `principal` of the user itself. */
  readonly of: ClaimPath | 'principal'
  readonly same: boolean
}

type CompiledPlace = CompiledOperation & {
  readonly templates: readonly RegExp[]
  /** Patterns that name nothing. */
  readonly others: PathSet
}

export type CompiledResource = {
  readonly places: readonly CompiledPlace[]
  readonly comparisons: readonly Comparison[]
}

/** Undefined where no condition asks for a segment. */
export function compileResource(
  to: readonly OperationMatch[] | undefined,
  when: readonly Condition[] | undefined,
  compilePorts: (operation: OperationMatch) => CompiledOperation,
): CompiledResource | undefined {
  const comparisons = (when ?? []).flatMap(comparisonsOf)
  if (to === undefined || comparisons.length === 0) return undefined
  return {
    comparisons,
    places: to.map(operation => {
      const { paths = [], ...rest } = operation
      return {
        ...compilePorts(operation),
        http: compileHttp(rest),
        templates: paths.filter(isPathTemplate).map(compileTemplate),
        others: compilePaths(paths.filter(path => !isPathTemplate(path))),
      }
    }),
  }
}

export const asksForSegment = ({ key }: Condition): boolean => conditionKey(key)?.kind === 'segment'

function comparisonsOf({ key, equals, notEquals }: Condition): Comparison[] {
  const known = conditionKey(key)
  if (known?.kind !== 'segment') return []
  const { name } = known
  const sides = [[equals, true] as const, [notEquals, false] as const]
  return sides.flatMap(([other, same]) =>
    other === undefined ? [] : [{ name, of: comparedWith(other), same }],
  )
}

/** @throws TypeError for a key that this build cannot compare with: whoever compiles has looked for them before. */
function comparedWith(key: string): Comparison['of'] {
  const known = conditionKey(key)
  if (known?.kind === 'user') return 'principal'
  if (known?.kind === 'claim') return known.claim
  throw new TypeError(`cannot compare with ${key}`)
}

/** Whether a `request.path[…]` may be compared with it. */
export const isComparable = (key: string): boolean => {
  const kind = conditionKey(key)?.kind
  return kind === 'user' || kind === 'claim'
}

export function resourceMatches(resource: CompiledResource, asked: Asked): boolean {
  const { port } = asked.request
  for (const place of resource.places) {
    const hasPort = (place.ports === undefined || place.ports.has(port)) && !place.notPorts?.has(port)
    if (hasPort && placeMatches(place, resource.comparisons, asked)) return true
  }
  return false
}

function placeMatches(
  { http: fields, templates, others }: CompiledPlace,
  comparisons: readonly Comparison[],
  { action, request: { http }, anyRequest }: Asked,
): boolean {
  if (anyRequest) return action === 'ALLOW'
  if (http === undefined || http.path === '') return action === 'DENY'
  if (fields && !httpMatches(fields, action, http)) return false
  for (const template of templates) {
    const found = template.exec(http.path)
    if (found && comparisons.every(compared => holds(compared, found.groups, http, action))) return true
  }
  return action === 'DENY' && includesPath(others, http.path)
}

function holds(
  { name, of, same }: Comparison,
  segments: { readonly [name: string]: string } | undefined,
  { user }: HttpRequest,
  action: AuthorizationPolicy['action'],
): boolean {
  const segment = decoded(segments?.[name])
  const values = user && valuesOf(user, of)
  if (segment === undefined || user === undefined || values === null) return action === 'DENY'
  return (values?.includes(segment) ?? false) === same
}

function valuesOf(user: EndUser, of: Comparison['of']): ClaimValues {
  if (of !== 'principal') return claimValues(user, of)
  return user.principal === undefined ? null : [user.principal]
}

/** Once, as applications do: what would become a slash or a backslash, the gate has refused. */
function decoded(segment: string | undefined): string | undefined {
  try {
    return segment === undefined ? undefined : decodeURIComponent(segment)
  } catch {
    return undefined
  }
}
