// The test's end of netns-agent.ts: a process inside a namespace whose operations are called like functions.
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { forkInside, type Namespace, type Uid } from './netns.ts'
import type { Call, Operations, Reply } from './netns-agent.ts'

export type Agent = {
  [K in keyof Operations]: (argument: Parameters<Operations[K]>[0]) => ReturnType<Operations[K]>
}

const MODULE = fileURLToPath(new URL('netns-agent.ts', import.meta.url))
const OPERATIONS: Record<keyof Operations, true> = {
  serve: true,
  capture: true,
  install: true,
  prove: true,
  dial: true,
  get: true,
  echoUdp: true,
  sendUdp: true,
}

/** Starts an agent; it ends with its namespace. */
export async function startAgent(namespace: Namespace, options: Uid = {}): Promise<Agent> {
  const child = forkInside(namespace, MODULE, options)
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
  return Object.fromEntries(Object.keys(OPERATIONS).map(name => [name, call(name)])) as Agent
}
