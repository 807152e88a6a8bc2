// What most corners need: a server and a client with sidecars, a pod without one, and an application in each; and what
// can be asked of the two sidecars from outside.
import type { Test } from 'tap'
import { until } from '../kube/support/installation.ts'
import type { RunningPod } from './namespace-kubelet.ts'
import { type Application, startApplication } from './netns-applications.ts'
import type { Script, Transcript } from './netns-conversation.ts'
import { type Mesh, type MeshOptions, metricsOf, openIn, type PlainPod, startMesh } from './netns-mesh.ts'
import { memoryOf } from './process-memory.ts'

export type Pair = {
  readonly mesh: Mesh
  readonly server: RunningPod
  readonly client: RunningPod
  readonly plain: PlainPod
  readonly serverApp: Application
  readonly clientApp: Application
  readonly plainApp: Application
}

export async function startPair(
  t: Test,
  stack: AsyncDisposableStack,
  options: MeshOptions = {},
): Promise<Pair> {
  const mesh = await startMesh(t, stack, options)
  const [server, client, plain] = await Promise.all([
    mesh.start('server'),
    mesh.start('client'),
    mesh.startPlain('plain'),
  ])
  const [serverApp, clientApp, plainApp] = await Promise.all([
    startApplication(server.namespace),
    startApplication(client.namespace),
    startApplication(plain.namespace),
  ])
  return { mesh, server, client, plain, serverApp, clientApp, plainApp }
}

/** Every step done, every byte right. */
export const isWhole = ({ done, steps, error, wrongAt }: Transcript): boolean =>
  done === steps && error === undefined && wrongAt === undefined

/** The same steps so many times. */
export const times = (count: number, steps: Script): Script =>
  Array.from({ length: count }, () => steps).flat()

export const PING: Script = [
  { do: 'send', bytes: 1 },
  { do: 'receive', bytes: 1 },
]
export const PONG: Script = [
  { do: 'receive', bytes: 1 },
  { do: 'send', bytes: 1 },
]
/** In order, whoever is first. */
export const CLOSE: Script = [{ do: 'end' }, { do: 'receiveEnd' }]

export type BothSidecars = { readonly server: number; readonly client: number }

export const SIDECARS = ['server', 'client'] as const

/** What each sidecar's process alone holds, in bytes. */
export async function memoryOfBoth({
  server,
  client,
}: Pick<Pair, 'server' | 'client'>): Promise<BothSidecars> {
  const [atServer, atClient] = await Promise.all([
    memoryOf(server.sidecar.pid ?? 0),
    memoryOf(client.sidecar.pid ?? 0),
  ])
  return { server: atServer.privateBytes, client: atClient.privateBytes }
}

/** Waits until neither sidecar has a connection that it let through. */
export async function untilNothingIsOpen({ server, client }: Pick<Pair, 'server' | 'client'>): Promise<void> {
  const last = { server: 0, client: 0 }
  const closed = async () => {
    last.server = await openIn(server)
    last.client = await openIn(client)
    return last.server === 0 && last.client === 0
  }
  await until(closed).catch(() => {
    throw new Error(`still open: ${JSON.stringify(last)}`)
  })
}

/** How many connections a sidecar has refused by a code. */
export const refusedBy = async (
  pod: RunningPod,
  direction: 'inbound' | 'outbound',
  code: string,
): Promise<number> =>
  (await metricsOf(pod))(`postern_connections_refused_total{direction="${direction}",code="${code}"}`)
