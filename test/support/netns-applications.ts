// The test's end of netns-application.ts.
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Namespace, Uid } from './netns.ts'
import type { Operations } from './netns-application.ts'
import { forkAgent, type Remote } from './netns-rpc.ts'

export type Application = Remote<Operations> & { readonly process: ChildProcess }

const MODULE = fileURLToPath(new URL('netns-application.ts', import.meta.url))
const OPERATIONS: Record<keyof Operations, true> = {
  serve: true,
  served: true,
  settled: true,
  outcomes: true,
  serveHttp: true,
  requestMany: true,
  live: true,
  dial: true,
  progress: true,
  dialMany: true,
  open: true,
}
/** Anybody but the sidecar's: what it dials is captured. */
const APPLICATION: Uid = { uid: 1000 }

/** Starts an application; it ends with its namespace. */
export async function startApplication(namespace: Namespace): Promise<Application> {
  const { remote, process } = await forkAgent<Operations>(namespace, MODULE, OPERATIONS, APPLICATION)
  return { ...remote, process }
}
