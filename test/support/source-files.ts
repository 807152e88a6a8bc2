// The project's TypeScript files and what they import, for the structure tests.
import { globSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

export type SourceFile = {
  /** Relative to the project's root. */
  readonly path: string
  readonly text: string
  readonly imports: readonly Import[]
}

export type Import = {
  readonly specifier: string
  /** Erased at run time. */
  readonly typeOnly: boolean
  /** For a relative import: the file, relative to the project's root. */
  readonly file?: string
}

export const projectRoot = new URL('../..', import.meta.url).pathname

export function sourceFiles(...folders: string[]): SourceFile[] {
  return folders
    .flatMap(folder => globSync(`${folder}/**/*.ts`, { cwd: projectRoot }))
    .sort()
    .map(path => {
      const text = readFileSync(join(projectRoot, path), 'utf8')
      return { path, text, imports: importsOf(path, text) }
    })
}

const IMPORT =
  /^(?:import|export)\s+(?<type>type\s)?(?:[^'";]*?\sfrom\s+)?'(?<static>[^']+)'|\bimport\(\s*'(?<dynamic>[^']+)'/gm

export function importsOf(path: string, text: string): Import[] {
  return [...text.matchAll(IMPORT)].map(({ groups = {} }) => {
    const specifier = groups.static ?? groups.dynamic ?? ''
    const typeOnly = groups.type !== undefined
    if (!specifier.startsWith('.')) return { specifier, typeOnly }
    return { specifier, typeOnly, file: posix.join(posix.dirname(path), specifier) }
  })
}

/** Lines that are neither blank nor only a comment. */
export function linesOfCode(text: string): number {
  const withoutBlocks = text.replaceAll(/^\s*\/\*[\s\S]*?\*\/[ \t]*$/gm, '')
  return withoutBlocks.split('\n').filter(line => line.trim() !== '' && !line.trim().startsWith('//')).length
}
