// What is compared: nothing, Postern, and its peers, each between the same client and the same backends.
import type { Network } from '../test/support/netns.ts'
import type { Mesh } from './mesh.ts'
import type { Backend, Place } from './stage.ts'

export const SUBJECTS = [
  'direct',
  'postern-l4',
  'postern-http',
  'envoy-l4',
  'envoy-l7',
  'haproxy',
  'nginx',
] as const
export type SubjectName = (typeof SUBJECTS)[number]

export type Subject = {
  readonly name: SubjectName
  /** Its set-up in a line, for the report; asked only once it has run. */
  describe(): string
  /** @throws Missing when this machine does not have it. */
  start(context: Context): Promise<Running>
}

export type Context = {
  readonly network: Network
  readonly mesh: () => Promise<Mesh>
  /** The namespaces of subjects that need no pod of their own. */
  readonly place: Place
  /** Of this start alone. */
  readonly directory: string
}

export type Running = AsyncDisposable & {
  readonly place: Place
  /** What the load generator, in the client's namespace, connects to. */
  address(backend: Backend): { readonly host: string; readonly port: number }
  /** The client's and the server's proxy; none where nothing is between. */
  readonly proxies: readonly number[]
  /** What an open stream costs the busier of them. */
  readonly filesPerStream: 1 | 2
  /** How long the slower of them took from its start until it was ready. */
  readonly readyMs: number
}

export class Missing extends Error {}
