// The named inputs of test/vectors/smuggling: what a gate must make of each, as data. One character is one byte, and
// `{{a*200}}` stands for two hundred of them.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from './source-files.ts'

export type SmugglingVector = {
  readonly group: string
  readonly name: string
  readonly input: string
  /** What the application gets whole: `GET /path`, with a blank and the decoded body behind it if there is one. */
  readonly seen: readonly string[]
  /** A request whose head the application gets, and never its end. */
  readonly unfinished?: string
  /** What the gate answers by itself: `400 PSTN_HTTP_MALFORMED`. */
  readonly answer?: string
}

const folder = join(projectRoot, 'test/vectors/smuggling')

export function smugglingVectors(): readonly SmugglingVector[] {
  return readdirSync(folder).flatMap(file => {
    const group = file.replace(/\.json$/, '')
    const vectors: Omit<SmugglingVector, 'group'>[] = JSON.parse(readFileSync(join(folder, file), 'utf8'))
    return vectors.map(vector => ({
      ...vector,
      group,
      input: expand(vector.input),
      seen: vector.seen.map(expand),
    }))
  })
}

const expand = (text: string): string =>
  text.replace(/\{\{(.)\*(\d+)\}\}/gs, (_, character: string, count: string) =>
    character.repeat(Number(count)),
  )
