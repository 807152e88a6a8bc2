// The test's end of netns-agent.ts.
import { fileURLToPath } from 'node:url'
import type { Namespace, Uid } from './netns.ts'
import type { Operations } from './netns-agent.ts'
import { forkAgent, type Remote } from './netns-rpc.ts'

export type Agent = Remote<Operations>

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
export const startAgent = async (namespace: Namespace, options: Uid = {}): Promise<Agent> =>
  (await forkAgent<Operations>(namespace, MODULE, OPERATIONS, options)).remote
