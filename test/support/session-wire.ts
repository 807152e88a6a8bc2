// A session of the tunnel in memory, and at the other end of its wire a peer that sends whatever frames a test wants.
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { ErrorCode } from '../../proxy/http2/errors.ts'
import { FrameReader } from '../../proxy/http2/frame-reader.ts'
import {
  CONNECTION_PREFACE,
  headersFrames,
  settingsAckFrame,
  settingsFrame,
} from '../../proxy/http2/frames.ts'
import type { Header } from '../../proxy/http2/header.ts'
import { HpackDecoder } from '../../proxy/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../proxy/http2/hpack-encoder.ts'
import type { ByteStream } from '../../proxy/tunnel/byte-stream.ts'
import { writeConnect } from '../../proxy/tunnel/connect-headers.ts'
import { Allowance } from '../../proxy/tunnel/flow-control.ts'
import { Held } from '../../proxy/tunnel/held.ts'
import { Session, type SessionOptions } from '../../proxy/tunnel/session.ts'
import { RECEIVE } from '../../proxy/tunnel/settings.ts'
import type { TunnelStream } from '../../proxy/tunnel/stream.ts'
import type { FrameEvent } from './http2-frames.ts'
import { memoryPair } from './memory-pair.ts'

export type Wire = {
  readonly session: Session
  /** Of a server: what was asked for, in order. */
  readonly requests: TunnelStream[]
  readonly limits: string[]
  readonly state: { closed: boolean; goaways: string[] }
  /** What the session has sent. DATA is ['data', stream, bytes]; pieces of one frame are told one by one. */
  readonly seen: FrameEvent[]
  send(...frames: readonly Buffer[]): void
  /** A header block in step with those before. */
  block(headers: readonly Header[]): Buffer
  connect(streamId: number, end?: boolean): Buffer
  /** The first frame like this that has been sent since the last call, or undefined when the session is quiet. */
  expect(...event: FrameEvent): Promise<FrameEvent | undefined>
  /** The last GOAWAY: its last stream, code and debug data. */
  goaway(): Promise<FrameEvent | undefined>
  /** What the session sends gets no further until `unstick`. */
  stick(): void
  unstick(): void
  /** Until nothing moves any more. */
  quiet(): Promise<void>
  close(): void
}

export function sessionWire(role: 'client' | 'server', options: Partial<SessionOptions> = {}): Wire {
  const [ours, theirs] = memoryPair()
  const requests: TunnelStream[] = []
  const limits: string[] = []
  const state = { closed: false, goaways: [] as string[] }
  const session = new Session({
    role,
    socket: ours,
    maxStreams: 8,
    growth: new Allowance(RECEIVE.growth),
    held: new Held(),
    onRequest: stream => requests.push(stream),
    onLimit: limit => limits.push(limit),
    onGoaway: debug => state.goaways.push(debug),
    onClose: () => {
      state.closed = true
    },
    ...options,
  })
  const seen = watch(theirs, role)
  const encoder = new HpackEncoder()
  const block = (headers: readonly Header[]) => encoder.encode(headers)
  let looked = 0
  const quiet = async () => {
    for (let before = -1, still = 0; still < 5; still += 1) {
      if (before !== seen.length || theirs.writableLength > 0) still = 0
      before = seen.length
      await turn()
    }
  }
  const send = (...frames: readonly Buffer[]) => void theirs.write(Buffer.concat(frames))
  if (role === 'server') send(CONNECTION_PREFACE)
  send(settingsFrame([]), settingsAckFrame())
  return {
    session,
    requests,
    limits,
    state,
    seen,
    send,
    block,
    connect: (id, end = false) => headersFrames(id, block(writeConnect('10.0.0.1:80', {})), end),
    expect: async (...event) => {
      await quiet()
      const like = (candidate: FrameEvent) => event.every((value, index) => candidate[index] === value)
      const at = seen.findIndex((candidate, index) => index >= looked && like(candidate))
      if (at >= 0) looked = at + 1
      return seen[at]
    },
    goaway: async () => {
      await quiet()
      return seen.findLast(([kind]) => kind === 'goaway')
    },
    stick: () => {
      ours.stuck = true
    },
    unstick: () => ours.unstick(),
    quiet,
    close: () => {
      session.destroy()
      theirs.destroy()
    },
  }
}

function watch(socket: Duplex, from: 'client' | 'server'): FrameEvent[] {
  const seen: FrameEvent[] = []
  const decoder = new HpackDecoder({ maxTableSize: 4096, maxListSize: 16_384 })
  const reader = new FrameReader(
    {
      data: (id, piece, _, end) => seen.push(['data', id, piece.length, end]),
      headers: (id, block, end) => seen.push(['headers', id, decoder.decode(block)[0]?.[1] ?? '', end]),
      priority: id => seen.push(['priority', id]),
      rstStream: (id, code) => seen.push(['rstStream', id, nameOf(code)]),
      settings: entries => seen.push(['settings', ...entries.flat()]),
      settingsAck: () => seen.push(['settingsAck']),
      ping: (opaque, ack) => seen.push(['ping', opaque.toString('latin1'), ack]),
      goaway: (last, code, debug) => seen.push(['goaway', last, nameOf(code), debug.toString('latin1')]),
      windowUpdate: (id, increment) => seen.push(['windowUpdate', id, increment]),
      unknown: type => seen.push(['unknown', type]),
      streamError: error => seen.push(['streamError', error.message]),
    },
    { from, maxFrameSize: 16_384 },
  )
  socket.on('data', chunk => reader.push(chunk))
  socket.on('error', () => {})
  return seen
}

export const nameOf = (code: number): string =>
  Object.entries(ErrorCode).find(([, value]) => value === code)?.[0] ?? String(code)

export type Read = { bytes: number; ended: boolean; closed: string | undefined }

/** Reads a stream to its end and says what came. */
export function read(stream: ByteStream, onData: (chunk: Buffer) => void = () => {}): Read {
  const read: Read = { bytes: 0, ended: false, closed: undefined }
  stream.open({
    data: chunk => {
      read.bytes += chunk.length
      onData(chunk)
    },
    end: () => {
      read.ended = true
    },
    drain: () => {},
    closed: how => {
      read.closed = how
    },
  })
  return read
}
