// The end user of a request, as a verified token names one, and how policies ask for its claims. What a token's issuer did
// not say is known to be absent: no caller can leave a claim out. Without a token nothing is known.

/** Names from the outermost to the innermost. */
export type ClaimPath = readonly string[]

export type EndUser = {
  /** `<iss>/<sub>`; undefined where the token has no subject. */
  readonly principal: string | undefined
  readonly claims: { readonly [name: string]: unknown }
}

/** A token may name nobody. */
export const principalOf = ({ iss, sub }: EndUser['claims']): string | undefined =>
  typeof iss === 'string' && typeof sub === 'string' && sub !== '' ? `${iss}/${sub}` : undefined

/** Texts, of a list each; `null`: something that no text stands for; undefined: there is none. */
export type ClaimValues = readonly string[] | null | undefined

export function claimValues({ claims }: EndUser, path: ClaimPath): ClaimValues {
  const value = claimAt(claims, path)
  if (value === undefined) return undefined
  // One text with blanks between the values (RFC 6749, section 3.3; RFC 9068, section 2.2.3).
  if (typeof value === 'string' && path.length === 1 && path[0] === 'scope')
    return value.split(' ').filter(scope => scope !== '')
  const texts = (Array.isArray(value) ? value : [value]).map(textOf)
  return texts.every(text => text !== undefined) ? texts : null
}

export function claimAt(claims: EndUser['claims'], path: ClaimPath): unknown {
  let value: unknown = claims
  for (const name of path) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    value = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined
  }
  return value
}

/** Numbers that every reader writes alike, and no others. */
export function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return typeof value === 'boolean' || Number.isSafeInteger(value) ? String(value) : undefined
}
