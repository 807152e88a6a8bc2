// Path templates, in Istio's form: `{*}` is one segment, `{**}` any text, slashes and none included; and in ours `{id}`, one
// segment that conditions may ask for. Compiled to regular expressions in which at most one part is open, so that no path
// makes one slow.
type Problem = { readonly reason: string; readonly hint: string }

const ONE = '{*}'
const ANY = '{**}'
const NAMED = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/
const TEMPLATE =
  'write {*} or {name} for one segment and, at most once, {**} for all that follows: /users/{id}/files/{**}'

export const isPathTemplate = (pattern: string): boolean => /[{}]/.test(pattern)

/** What is wrong with a template, but for the text between its operators. */
export function templateProblem(template: string): Problem | undefined {
  if (!template.startsWith('/')) return { reason: 'does not begin with /', hint: TEMPLATE }
  const segments = template.slice(1).split('/')
  for (const segment of segments) {
    if (segment === ONE || segment === ANY || NAMED.test(segment)) continue
    if (isPathTemplate(segment)) return { reason: 'has an operator that is no whole segment', hint: TEMPLATE }
    if (segment.includes('*'))
      return { reason: 'has a * outside of braces beside an operator', hint: TEMPLATE }
  }
  if (segments.filter(segment => segment === ANY).length > 1)
    return { reason: 'has {**} more than once', hint: TEMPLATE }
  const names = namesIn(template)
  if (new Set(names).size < names.length)
    return { reason: 'gives one name to two segments', hint: 'write {*} for the one that nobody asks for' }
  return undefined
}

/** A path that the template matches, for checks of what stands between its operators. */
export const exampleOf = (template: string): string => template.replace(/\{[^{}]*\}/g, 'x')

/** The segments that conditions may ask for. */
export const namesIn = (template: string): readonly string[] =>
  template.split('/').flatMap(segment => NAMED.exec(segment)?.[1] ?? [])

export function compileTemplate(template: string): RegExp {
  const segments = template.split('/').map(segment => {
    if (segment === ONE) return '[^/]+'
    const [, name] = NAMED.exec(segment) ?? []
    if (name !== undefined) return `(?<${name}>[^/]+)`
    return segment === ANY ? '.*' : RegExp.escape(segment)
  })
  return new RegExp(`^${segments.join('/')}$`, 's')
}
