// A Node process inside a network namespace whose operations are called like functions; arguments and results travel as
// JSON over the fork's channel. Both ends of that channel.
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { forkInside, type Namespace, type Uid } from './netns.ts'

type Operations = Record<string, (argument: never) => Promise<unknown>>
type Call = { readonly id: number; readonly operation: string; readonly argument: unknown }
type Reply = { readonly id: number; readonly value?: unknown; readonly error?: string }

export type Remote<O extends Operations> = {
  [K in keyof O]: (argument: Parameters<O[K]>[0]) => ReturnType<O[K]>
}

/** The inside: answers calls until the test is gone. */
export function answerCalls(operations: Operations): void {
  const answer = async ({ id, operation, argument }: Call): Promise<Reply> => {
    try {
      const run = operations[operation] as ((argument: unknown) => Promise<unknown>) | undefined
      if (!run) throw new Error(`no operation ${operation}`)
      return { id, value: await run(argument) }
    } catch (thrown) {
      return { id, error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) }
    }
  }
  process.on('message', (call: Call) => void answer(call).then(reply => process.send?.(reply)))
  process.on('disconnect', () => process.exit())
}

/** The test's end: starts `module`, which calls answerCalls(); it ends with its namespace. */
export async function forkAgent<O extends Operations>(
  namespace: Namespace,
  module: string,
  operations: Record<keyof O & string, true>,
  options: Uid = {},
): Promise<{ readonly remote: Remote<O>; readonly process: ChildProcess }> {
  const child = forkInside(namespace, module, options)
  await once(child, 'spawn')
  const waiting = new Map<number, PromiseWithResolvers<unknown>>()
  let calls = 0
  child.on('message', ({ id, value, error }: Reply) => {
    const call = waiting.get(id)
    waiting.delete(id)
    if (error === undefined) call?.resolve(value)
    else call?.reject(new Error(`agent in ${namespace.name}: ${error}`))
  })
  child.on('exit', status => {
    for (const call of waiting.values())
      call.reject(new Error(`agent in ${namespace.name} ended (${status})`))
  })
  const call = (operation: string) => (argument: unknown) => {
    const id = calls++
    const result = Promise.withResolvers<unknown>()
    waiting.set(id, result)
    child.send({ id, operation, argument } satisfies Call)
    return result.promise
  }
  const remote = Object.fromEntries(Object.keys(operations).map(name => [name, call(name)])) as Remote<O>
  return { remote, process: child }
}
