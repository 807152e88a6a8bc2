// What may be written as a pattern, checked so that nothing is accepted that could never match: a DENY rule with such a
// pattern would protect nothing, and nobody would notice.
import { normalizePath } from '../http/path.ts'
import { exampleOf, isPathTemplate, templateProblem } from './path-template.ts'

/** `*`, `prefix*`, `*suffix` of what `part` accepts, or text without a star that `exact` accepts. */
export function isPattern(text: string, part: RegExp, exact: (text: string) => boolean): boolean {
  if (text === '*') return true
  const bare = text.startsWith('*') ? text.slice(1) : text.endsWith('*') ? text.slice(0, -1) : undefined
  return bare === undefined ? exact(text) : part.test(bare)
}

/** RFC 9110, section 9.1; every registered method is in capitals. */
const METHOD = /^[!#$%&'+.^_`|~0-9A-Z-]+$/

export const isMethodPattern = (text: string): boolean => isPattern(text, METHOD, exact => METHOD.test(exact))

const NAME = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/
const PART = /^(?!.*\.\.)[a-z0-9._-]+$/
/** A name neither begins nor ends with a dot. */
const EDGE = /^\.|\.$/
const IPV6 = /^\[[0-9a-f:.]{2,45}\]$/
const PORT = /^(.+):([1-9][0-9]{0,4}|\*)$/

/**
 * A host pattern in its normal form: lower case; `:*` left out, since a host without a port means any. Undefined if it
 * can match no host.
 */
export function hostPattern(text: string): string | undefined {
  const lower = text.toLowerCase()
  const [, name = lower, port] = lower.endsWith(']') ? [] : (PORT.exec(lower) ?? [])
  const isName = isPattern(name, PART, exact => NAME.test(exact) || IPV6.test(exact))
  const isOnlyStar = port === undefined || name === '*' || !name.endsWith('*')
  if (!isName || EDGE.test(name) || !isOnlyStar || Number(port) > 65_535) return undefined
  return port === undefined || port === '*' ? name : `${name}:${port}`
}

type Problem = { readonly reason: string; readonly hint: string }

/** What is wrong with a path pattern, or undefined. */
export function pathProblem(text: string): Problem | undefined {
  if (text === '*') return undefined
  if (/[?#]/.test(text)) return { reason: 'has a query or fragment', hint: 'only the path itself is matched' }
  if (isPathTemplate(text)) return templateProblem(text) ?? oddTemplate(text)
  const isSuffix = text.startsWith('*')
  const isPrefix = !isSuffix && text.endsWith('*')
  const bare = isSuffix ? text.slice(1) : isPrefix ? text.slice(0, -1) : text
  if (!isSuffix && !bare.startsWith('/')) return { reason: 'does not begin with / or *', hint: PATH }
  if (bare.includes('*')) return { reason: 'has a * in the middle', hint: PATH }
  return matchless(isSuffix ? '/x' : '', bare, isPrefix ? 'x' : '')
}

const PATH = 'write a path such as /orders, or one * at the beginning or the end, such as /orders/*'

const NORMAL_FORM = 'docs/policy.md says what the normal form is'

function oddTemplate(template: string): Problem | undefined {
  const problem = matchless('', exampleOf(template), '')
  return problem && { reason: problem.reason, hint: NORMAL_FORM }
}

/** Whether no path in its normal form can have `bare` between what may stand before and behind it. */
function matchless(before: string, bare: string, behind: string): Problem | undefined {
  const example = before + bare + behind
  const normal = normalForm(example)
  if (normal === example) return undefined
  const reason = 'is not in the normal form of paths, which is what is matched'
  const core =
    normal?.startsWith(before) && normal.endsWith(behind)
      ? normal.slice(before.length, normal.length - behind.length)
      : undefined
  const star = { before: before && '*', behind: behind && '*' }
  return {
    reason,
    hint: core ? `write ${star.before}${core}${star.behind}` : NORMAL_FORM,
  }
}

/** Characters beyond ASCII as their UTF-8, as clients send them; undefined for what is refused in every request. */
function normalForm(path: string): string | undefined {
  try {
    return normalizePath(path.replace(/[^\0-\x7f]+/g, encodeURIComponent))
  } catch {
    return undefined
  }
}
