// End users that policies can tell apart: by their principal, by their claims, and by whether a segment of the path is theirs.
import { conditionKey } from '../../../shared/policy/condition-key.ts'
import type { EndUser } from '../../../shared/policy/end-user.ts'
import { compileTemplate, isPathTemplate } from '../../../shared/policy/path-template.ts'
import { type Axis, claimTexts, type Value } from './axes.ts'
import type { Written } from './written.ts'

const PRINCIPAL = 'request.auth.principal'
/** Claims are combined with each other: beyond so many users the rest is left out, and said to be. */
const MOST_USERS = 200

/** `paths`: those of the requests that they will make. */
export function users(written: Written, paths: readonly string[]): Axis<EndUser | undefined> {
  const nobody: Value<EndUser | undefined> = { label: 'no end user', value: undefined }
  const { claims, segments } = written
  const compared = new Set(segments.map(({ key }) => key))
  if (written.users.length + claims.size + compared.size === 0) return { values: [nobody], complete: true }
  const own = segmentsOf(written, paths)
  const asked = (key: string, values: readonly string[]) =>
    claimTexts([...new Set([...values, ...(compared.has(key) ? own : [])])])
  const principals = asked(PRINCIPAL, written.users)
  const keys = [...new Set([...claims.keys(), ...compared])].filter(key => key !== PRINCIPAL)
  const axes = keys.map(key => ({ key, axis: asked(key, claims.get(key) ?? []) }))
  const known: Value<EndUser>[] = [
    ...principals.values.map(({ value }) => ({ label: value, value: { principal: value, claims: {} } })),
    { label: 'a token without a subject', value: { principal: undefined, claims: {} } },
  ]
  let [all, complete] = [known, principals.complete]
  for (const { key, axis } of axes) {
    const more = all.flatMap(user => [
      user,
      ...claimValuesOf(axis).map(({ label, value }) => ({
        label: `${user.label} with ${key} ${label}`,
        value: { ...user.value, claims: withClaim(user.value.claims, pathOf(key), value) },
      })),
    ])
    complete &&= axis.complete && more.length <= MOST_USERS
    all = more.slice(0, MOST_USERS)
  }
  return { values: [nobody, ...all], complete }
}

const pathOf = (key: string): readonly string[] => {
  const known = conditionKey(key)
  return known?.kind === 'claim' ? known.claim : []
}

/** One text, several at once, and what no text stands for. */
function claimValuesOf({ values }: Axis<string>): readonly Value<unknown>[] {
  const texts = values.map(({ value }) => value)
  return [
    ...values,
    ...(texts.length > 1 ? [{ label: texts.join(' and '), value: texts }] : []),
    { label: 'that is no text', value: {} },
  ]
}

function withClaim(
  claims: EndUser['claims'],
  [name, ...rest]: readonly string[],
  value: unknown,
): EndUser['claims'] {
  if (name === undefined) return claims
  const inner = claims[name]
  const within = typeof inner === 'object' && inner !== null ? { ...inner } : {}
  return { ...claims, [name]: rest.length === 0 ? value : withClaim(within, rest, value) }
}

function segmentsOf({ paths: patterns, segments }: Written, paths: readonly string[]): readonly string[] {
  const templates = patterns.filter(isPathTemplate).map(compileTemplate)
  const names = new Set(segments.map(({ name }) => name))
  return paths.flatMap(path =>
    templates.flatMap(template =>
      Object.entries(template.exec(path)?.groups ?? {}).flatMap(([name, value]) =>
        names.has(name) && value ? [value] : [],
      ),
    ),
  )
}
