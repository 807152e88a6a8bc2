// The HTTP/2 gate between two byte streams that are only memory: a test hands it frames, right or wrong, and sees at once
// what it passes on, as a receiver that knows nothing of the gate reads it.
import { gateHttp2 } from '../../proxy/gate/http2/gate.ts'
import type { Gated, GateOptions, RequestOutcome } from '../../proxy/gate/interface.ts'
import { FrameReader } from '../../proxy/http2/frame-reader.ts'
import { headersFrames, settingsFrame } from '../../proxy/http2/frames.ts'
import type { Header } from '../../proxy/http2/header.ts'
import { HpackDecoder } from '../../proxy/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../proxy/http2/hpack-encoder.ts'
import type { PosternError } from '../../shared/errors.ts'
import type { HttpRequest } from '../../shared/policy/model.ts'
import { MemoryStream } from './gate-in-memory.ts'
import { type FrameEvent, ignoringFrames, OPENING } from './http2-frames.ts'

/** As FrameReader tells them; header blocks decoded, DATA in the pieces in which it was sent. */
export type Received = FrameEvent | readonly ['headers', number, readonly Header[], boolean]

export type Http2InMemory = {
  readonly caller: MemoryStream
  readonly application: MemoryStream
  readonly asked: HttpRequest[]
  readonly outcomes: RequestOutcome[]
  readonly live: ReadonlySet<(why: PosternError) => void>
  readonly result: Promise<Gated>
  /** Frames of the caller with a header block. */
  request(streamId: number, headers: readonly Header[], endStream?: boolean): Buffer
  answer(streamId: number, headers: readonly Header[], endStream?: boolean): Buffer
  /** What each side has received since the last look. */
  seenByCaller(): Received[]
  seenByApplication(): Received[]
  /** The time that the gate is told. */
  clock: { now: number }
}

export type Http2InMemoryOptions = Partial<GateOptions> & {
  readonly allow?: (request: HttpRequest) => boolean
  /** Both sides have sent and acknowledged SETTINGS; nothing of it is shown. Unless told otherwise. */
  readonly opened?: boolean
}

export const GET: readonly Header[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'shop'],
  [':path', '/'],
]
export const POST: readonly Header[] = [[':method', 'POST'], ...GET.slice(1)]

export function http2InMemory(options: Http2InMemoryOptions = {}): Http2InMemory {
  const { allow = () => true, opened = true, ...overrides } = options
  const [caller, application] = [new MemoryStream(), new MemoryStream()]
  const asked: HttpRequest[] = []
  const outcomes: RequestOutcome[] = []
  const live = new Set<(why: PosternError) => void>()
  const clock = { now: 0 }
  const result = gateHttp2(caller, application, {
    signal: new AbortController().signal,
    forwardedClientCert: undefined,
    now: () => clock.now,
    traffic: { aToB: 0, bToA: 0 },
    onRequest: outcome => outcomes.push(outcome),
    readsHeaders: () => false,
    authorize: (request, onRevoked) => {
      asked.push(request)
      live.add(onRevoked)
      return {
        decision: allow(request)
          ? { allow: true }
          : { allow: false, code: 'PSTN_POLICY_DENIED', reason: 'as the test wants it' },
        [Symbol.dispose]: () => void live.delete(onRevoked),
      }
    },
    ...overrides,
  })
  const seenByCaller = receiver(caller, 'server')
  const seenByApplication = receiver(application, 'client')
  const [requests, answers] = [new HpackEncoder(), new HpackEncoder()]
  if (opened) {
    caller.send(OPENING)
    application.send(settingsFrame([]))
    seenByCaller()
    seenByApplication()
  }
  return {
    caller,
    application,
    asked,
    outcomes,
    live,
    result,
    request: (id, headers, end = false) => headersFrames(id, requests.encode(headers), end),
    answer: (id, headers, end = false) => headersFrames(id, answers.encode(headers), end),
    seenByCaller,
    seenByApplication,
    clock,
  }
}

/** Throws what a receiver would end the connection for. */
function receiver(stream: MemoryStream, from: 'client' | 'server'): () => Received[] {
  let seen: Received[] = []
  const hpack = new HpackDecoder({ maxTableSize: 4096, maxListSize: 1_000_000 })
  const reader = new FrameReader(
    {
      ...ignoringFrames,
      data: (id, piece, flowControlled, end) =>
        seen.push(['data', id, piece.toString('latin1'), flowControlled, end]),
      headers: (id, block, end) => seen.push(['headers', id, hpack.decode(block), end]),
      rstStream: (id, code) => seen.push(['rstStream', id, code]),
      settings: entries => seen.push(['settings', ...entries.flat()]),
      settingsAck: () => seen.push(['settingsAck']),
      ping: (opaque, ack) => seen.push(['ping', opaque.toString('latin1'), ack]),
      goaway: (last, code, debug) => seen.push(['goaway', last, code, debug.toString('latin1')]),
      windowUpdate: (id, increment) => seen.push(['windowUpdate', id, increment]),
      priority: id => seen.push(['priority', id]),
      unknown: type => seen.push(['unknown', type]),
    },
    { from, maxFrameSize: 16_384 },
  )
  return () => {
    for (const bytes of stream.written.splice(0)) reader.push(bytes)
    const found = seen
    seen = []
    return found
  }
}
