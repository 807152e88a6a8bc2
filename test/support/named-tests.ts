// What a page says of tests, `tier/file` “name”, and whether there are such tests: for pages that promise to be proved.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from './source-files.ts'

export type Proof = { readonly path: string; readonly names: readonly string[] }

const QUOTED = /“([^”]+)”/g
/** A file, and the names of tests in it. */
const PROOF = /`([a-z0-9-]+(?:\/[a-z0-9-]+)+)` ((?:“[^”]+”(?:, )?)+)/g

export const quotedIn = (text: string): string[] => [...text.matchAll(QUOTED)].map(([, name = '']) => name)

export const proofsIn = (text: string): Proof[] =>
  [...text.matchAll(PROOF)].map(([, file = '', names = '']) => ({
    path: `test/${file}.test.ts`,
    names: quotedIn(names),
  }))

/** The text between quotes, in which whatever a template puts in may stand for anything. */
export function namesIn(literals: Iterable<RegExpExecArray>): RegExp[] {
  return [...literals].map(([, , text = '']) => {
    const parts = text.split(/\$\{[^}]*\}/).map(part => RegExp.escape(part))
    return new RegExp(`^${parts.join('.+')}$`, 's')
  })
}

/** With a word of its own: a template of nothing else would be every name. */
const LITERAL = /(['"`])((?=[^'"`\n]*[a-z]{2} [a-zA-Z0-9$])[^'"`\n]+|\$\{\w+\} [a-zA-Z]+)\1/g

/** What is named and is not there, in words. */
export function missingTests(proofs: readonly Proof[]): string[] {
  return proofs.flatMap(({ path, names }) => {
    if (!existsSync(join(projectRoot, path))) return [`${path} does not exist`]
    const literals = namesIn(readFileSync(join(projectRoot, path), 'utf8').matchAll(LITERAL))
    return names
      .filter(name => !literals.some(literal => literal.test(name)))
      .map(name => `${path} has no test “${name}”`)
  })
}
