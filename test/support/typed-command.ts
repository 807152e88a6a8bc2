// The command line as somebody types it, without a cluster: what it prints, and its exit code.
import type { Command } from '../../cli/command.ts'
import { run } from '../../cli/run.ts'

export type Typed = {
  readonly code: number
  readonly out: string
  readonly err: string
  /** How often a cluster was asked for. */
  readonly asked: number
}

export async function typeCommand(words: readonly string[], commands: readonly Command[]): Promise<Typed> {
  let [out, err, asked] = ['', '', 0]
  const code = await run(words, {
    commands,
    sink: {
      out: text => {
        out += text
      },
      err: text => {
        err += text
      },
    },
    signal: new AbortController().signal,
    version: 'test',
    connect: () => {
      asked += 1
      return Promise.reject(new Error('no cluster'))
    },
  })
  return { code, out, err, asked }
}
