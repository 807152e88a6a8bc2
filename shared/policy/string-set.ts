// A list of string patterns (exact, `prefix*`, `*suffix`, `*`) compiled so that exact values cost one look-up.
import type { StringMatch } from './model.ts'

export type StringSet = {
  readonly exact: ReadonlySet<string>
  readonly prefixes: readonly string[]
  readonly suffixes: readonly string[]
  /** `*`: anything but the empty string. */
  readonly present: boolean
}

export function compileStrings(patterns: readonly StringMatch[]): StringSet {
  const exact = new Set<string>()
  const prefixes: string[] = []
  const suffixes: string[] = []
  let present = false
  for (const pattern of patterns) {
    if (pattern === '*') present = true
    else if (pattern.endsWith('*')) prefixes.push(pattern.slice(0, -1))
    else if (pattern.startsWith('*')) suffixes.push(pattern.slice(1))
    else exact.add(pattern)
  }
  return { exact, prefixes, suffixes, present }
}

export function includes({ exact, prefixes, suffixes, present }: StringSet, text: string): boolean {
  if ((present && text !== '') || exact.has(text)) return true
  for (const prefix of prefixes) if (text.startsWith(prefix)) return true
  for (const suffix of suffixes) if (text.endsWith(suffix)) return true
  return false
}
