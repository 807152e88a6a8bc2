// Patterns of policies in parts, as automaton.ts walks them.
import { isPathTemplate } from '../../../shared/policy/path-template.ts'
import type { Part, Pattern } from './automaton.ts'

export const text = (value: string): Part => ({ kind: 'text', text: value })
export const some = (within = false): Part => ({ kind: 'open', within, least: 1 })
const any = (within = false): Part => ({ kind: 'open', within, least: 0 })

/** Exact, `prefix*`, `*suffix`, or `*`; `within` one segment. */
export function stringPattern(pattern: string, within = false): Pattern {
  if (pattern === '*') return [some(within)]
  if (pattern.endsWith('*')) return [text(pattern.slice(0, -1)), any(within)]
  return pattern.startsWith('*') ? [any(within), text(pattern.slice(1))] : [text(pattern)]
}

export function pathPattern(pattern: string): Pattern {
  if (!isPathTemplate(pattern)) return stringPattern(pattern)
  return pattern.split(/(\{[^{}]*\})/).flatMap(piece => {
    if (piece === '{**}') return [any()]
    return piece.startsWith('{') ? [some(true)] : piece === '' ? [] : [text(piece)]
  })
}
