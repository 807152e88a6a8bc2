// h2spec, the conformance tests of others, run against a port.
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { builtBinary } from '../cluster/binaries.ts'

export type H2specOutcome = { readonly name: string; readonly failed: boolean }

/** Every case of `sections`, all of them if there are none. */
export async function h2spec(
  port: number,
  directory: string,
  sections: readonly string[] = [],
): Promise<H2specOutcome[]> {
  const report = join(directory, `${port}.xml`)
  const program = await builtBinary('h2spec')
  const { promise: finished, resolve } = Promise.withResolvers<void>()
  // It exits with 1 when a test failed: the report says which.
  execFile(program, ['-h', '127.0.0.1', '-p', String(port), '-o', '2', '-j', report, ...sections], () =>
    resolve(),
  )
  await finished
  const text = (await readFile(report, 'utf8')).replaceAll('&#34;', '"')
  return [...text.matchAll(/<testcase [^>]*classname="(.*?)" time="[^"]*">(<\/testcase>)?/g)].map(
    ([, name = '', passed]) => ({ name, failed: passed === undefined }),
  )
}

export const failedOf = (outcomes: readonly H2specOutcome[]): string[] =>
  outcomes.filter(({ failed }) => failed).map(({ name }) => name)
