// An application in a pod: it listens and dials inside its network namespace, and follows scripts on every connection.
// The test calls it through netns-applications.ts.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import {
  type Conversation,
  type ConversationOptions,
  converse,
  type Progress,
  type Script,
  type Transcript,
} from './netns-conversation.ts'
import { httpOperations } from './netns-http.ts'
import { answerCalls } from './netns-rpc.ts'
import { randomConversation } from './random-conversation.ts'

/** The same on every connection, or made from a seed and the id of the connection. */
export type ScriptSource = Script | { readonly random: number }

export type Dial = {
  readonly host: string
  readonly port: number
  readonly script: ScriptSource
  /** The id that the client introduces itself by. */
  readonly introduce?: number
  readonly localPort?: number
  readonly localAddress?: string
  readonly timeoutMs?: number
}

export type DialMany = Omit<Dial, 'introduce'> & {
  readonly count: number
  /** They introduce themselves by this id, the next … */
  readonly from?: number
  /** … or not at all. */
  readonly anonymous?: boolean
  readonly atOnce?: number
}

export type Serve = {
  readonly port: number
  readonly host?: string
  readonly script: ScriptSource
  /** Clients introduce themselves. */
  readonly meet?: boolean
  readonly backlog?: number
  readonly timeoutMs?: number
  /** It speaks TLS itself, with this certificate (PEM). */
  readonly tls?: { readonly key: string; readonly cert: string }
}

export type Outcomes = {
  /** How many connections came to which end: `done`, or what was wrong. */
  readonly counts: Readonly<Record<string, number>>
  /** The first few that were not `done`. */
  readonly others: readonly Transcript[]
  readonly ms: number
}

type Listener = {
  readonly live: Set<Conversation>
  /** Not taken yet. */
  readonly ended: Transcript[]
  readonly counts: Record<string, number>
  wake(): void
}

const SERVED_TIMEOUT_MS = 60_000
/** A soak has millions. */
const KEPT_TRANSCRIPTS = 20_000

const gates = new Map<string, PromiseWithResolvers<void>>()
const listeners = new Map<number, Listener>()
const dialled = new Map<number, Conversation>()

export const operations = {
  ...httpOperations,

  async serve(options: Serve): Promise<void> {
    const { port, host = '::', script, meet = false, backlog = 4_096, timeoutMs, tls } = options
    const listener: Listener = { live: new Set(), ended: [], counts: {}, wake: () => {} }
    listeners.set(port, listener)
    const meetOne = (socket: Socket) => {
      const conversation = begin(socket, {
        end: 'server',
        script: scriptOf(script, 'server'),
        meet,
        ...(timeoutMs !== undefined && { timeoutMs }),
      })
      listener.live.add(conversation)
      void conversation.transcript.then(transcript => {
        listener.live.delete(conversation)
        count(listener.counts, outcomeOf(transcript))
        listener.ended.push(transcript)
        if (listener.ended.length > KEPT_TRANSCRIPTS) listener.ended.shift()
        listener.wake()
      })
    }
    const handling = { allowHalfOpen: true, noDelay: true }
    const server = tls ? createTlsServer({ ...handling, ...tls }, meetOne) : createServer(handling, meetOne)
    await once(server.listen({ port, host, backlog }), 'listening')
  },

  /** The transcripts of the next `count` connections of a listener, as they end, in the order of their ids. */
  async served({ port, count }: { port: number; count: number }): Promise<readonly Transcript[]> {
    const listener = listenerOf(port)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const late = () => reject(new Error(`${listener.ended.length} of ${count} connections to ${port} ended`))
    const timer = setTimeout(late, SERVED_TIMEOUT_MS)
    listener.wake = () => {
      if (listener.ended.length >= count) resolve()
    }
    listener.wake()
    await promise.finally(() => clearTimeout(timer))
    return listener.ended.splice(0, count).toSorted((a, b) => a.id - b.id)
  },

  /** Takes the transcripts of all that has ended, once none lives. */
  async settled({ port }: { port: number }): Promise<readonly Transcript[]> {
    const { live, ended } = listenerOf(port)
    await Promise.all([...live].map(({ transcript }) => transcript))
    return ended.splice(0)
  },

  /** How many connections to a listener came to which end, of all. */
  async outcomes({ port }: { port: number }): Promise<Outcomes['counts']> {
    return listenerOf(port).counts
  },

  async live({ port }: { port: number }): Promise<readonly Progress[]> {
    return [...listenerOf(port).live].map(conversation => conversation.progress())
  },

  async dial(options: Dial): Promise<Transcript> {
    return dial(options).transcript
  },

  /** Of a dialled connection that introduced itself. */
  async progress({ id }: { id: number }): Promise<Progress | undefined> {
    return dialled.get(id)?.progress()
  },

  /** Dials connections, so many at a time, and counts how they ended. */
  async dialMany(options: DialMany): Promise<Outcomes> {
    const { count: many, from = 1, anonymous = false, atOnce = many, ...each } = options
    const started = performance.now()
    const counts: Record<string, number> = {}
    const others: Transcript[] = []
    let next = from
    const worker = async () => {
      while (next < from + many) {
        const introduce = next++
        const transcript = await dial({ ...each, ...(!anonymous && { introduce }) }).transcript
        const outcome = outcomeOf(transcript)
        count(counts, outcome)
        if (outcome !== 'done' && others.length < 5) others.push(transcript)
      }
    }
    await Promise.all(Array.from({ length: atOnce }, worker))
    return { counts, others, ms: performance.now() - started }
  },

  /** Lets pass whoever waits at the gate, now and later. */
  async open({ gate }: { gate: string }): Promise<void> {
    gateOf(gate).resolve()
  },
}

export type Operations = typeof operations

function dial({ script, introduce, timeoutMs, ...target }: Dial): Conversation {
  const socket = connect({ ...target, allowHalfOpen: true, noDelay: true })
  const conversation = begin(socket, {
    end: 'client',
    script: scriptOf(script, 'client'),
    ...(introduce !== undefined && { introduce }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  })
  if (introduce !== undefined) {
    dialled.set(introduce, conversation)
    void conversation.transcript.then(() => dialled.delete(introduce))
  }
  return conversation
}

const begin = (socket: Socket, options: Omit<ConversationOptions, 'gate'>): Conversation =>
  converse(socket, { ...options, gate: name => gateOf(name).promise })

const scriptOf = (source: ScriptSource, end: 'client' | 'server') => (id: number) =>
  'random' in source ? randomConversation(source.random, id)[end] : source

function outcomeOf({ done, steps, error, wrongAt, ended }: Transcript): string {
  if (wrongAt !== undefined) return `wrong byte at ${wrongAt}`
  if (done === steps && steps > 0 && error === undefined) return 'done'
  return `${error ?? (ended ? 'ended' : 'open')} after step ${done} of ${steps}`
}

function count(counts: Record<string, number>, outcome: string): void {
  counts[outcome] = (counts[outcome] ?? 0) + 1
}

function gateOf(name: string): PromiseWithResolvers<void> {
  const existing = gates.get(name)
  if (existing) return existing
  const gate = Promise.withResolvers<void>()
  gates.set(name, gate)
  return gate
}

function listenerOf(port: number): Listener {
  const listener = listeners.get(port)
  if (!listener) throw new Error(`nothing is served on ${port}`)
  return listener
}

answerCalls(operations)
