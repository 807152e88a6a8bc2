// Callers without a sidecar, of ports where one terminates TLS: they are where the test is, outside of every pod, and follow
// scripts as the applications in pods do (netns-conversation.ts).
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { type Conversation, converse, type Script } from './netns-conversation.ts'

/** Or a connection to it of which nothing has been used. */
export type Target = { readonly host: string; readonly port: number } | { readonly socket: Socket }

export type CallerOptions = {
  readonly script: Script
  /** Whom it shows itself as, and whom it believes. Absent: it speaks plaintext. */
  readonly tls?: Pick<ConnectionOptions, 'key' | 'cert' | 'ca' | 'maxVersion'> | undefined
  /** To applications that meet whom they serve. */
  readonly introduce?: number
  readonly gate?: Promise<void>
}

export function call(target: Target, { script, tls, introduce, gate = NEVER }: CallerOptions): Conversation {
  const socket = 'socket' in target ? target.socket : connect({ ...target, noDelay: true })
  return converse(tls ? encrypted(socket, tls) : socket, {
    end: 'client',
    script: () => script,
    ...(introduce !== undefined && { introduce }),
    gate: () => gate,
    timeoutMs: 30_000,
  })
}

const NEVER = new Promise<void>(() => {})

/** The sidecar’s chain is verified; that it has the name that was dialled is tried with curl, in tls-ports.test.ts. */
const encrypted = (socket: Socket, tls: NonNullable<CallerOptions['tls']>): Socket =>
  connectTls({ ...tls, socket, checkServerIdentity: () => undefined })

/** Of a pod whose certificate is in files: whoever has them can be it, from anywhere. */
export const fromFiles = (directory: string): NonNullable<CallerOptions['tls']> => {
  const file = (name: string) => readFileSync(join(directory, '..data', name), 'utf8')
  return { key: file('tls.key'), cert: file('tls.crt'), ca: file('ca.crt') }
}
