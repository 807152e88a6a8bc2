// `postern` as somebody types it, in this process: what it printed, and how it ended.
import { type Environment, run } from '../../cli/run.ts'

export type Printed = { readonly code: number; readonly out: string; readonly err: string }

export async function typed(
  words: readonly string[],
  environment: Pick<Environment, 'commands' | 'connect'> & Partial<Pick<Environment, 'signal' | 'version'>>,
): Promise<Printed> {
  const [out, err]: [string[], string[]] = [[], []]
  const code = await run(words, {
    sink: { out: text => out.push(text), err: text => err.push(text) },
    signal: AbortSignal.timeout(120_000),
    version: 'test',
    ...environment,
  })
  return { code, out: out.join(''), err: err.join('') }
}

/** Without a cluster; `asked`: how often one was asked for. */
export async function typedAlone(
  words: readonly string[],
  commands: Environment['commands'],
): Promise<Printed & { readonly asked: number }> {
  let asked = 0
  const printed = await typed(words, {
    commands,
    connect: () => {
      asked += 1
      return Promise.reject(new Error('no cluster'))
    },
  })
  return { ...printed, asked }
}
