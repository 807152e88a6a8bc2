// One sidecar's control stream, from its hello to its end. Lines come in through the strict decoder; what goes out is
// decided by the outbox. Whoever is silent, slow, or breaks the protocol loses the stream and may come back.
import { constants, type ServerHttp2Stream } from 'node:http2'
import type { Clock } from '../../shared/clock.ts'
import { decodeFromSidecar, MAX_LINE_BYTES } from '../../shared/control/decode.ts'
import {
  FEATURES_HEADER,
  type FromInjector,
  type FromSidecar,
  HEARTBEAT_MS,
  LOST_AFTER_MS,
  STATUS_EXTENSIONS,
  type Status,
} from '../../shared/control/messages.ts'
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import { lines } from '../../shared/lines.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { FEATURES } from '../../shared/policy/model.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'
import type { OwnTrust } from '../../shared/trust-bundle.ts'
import type { Directory } from '../directory/directory.ts'
import type { Federation } from '../federation/watch.ts'
import type { Revocations } from '../revocation/watch.ts'
import { type Greeted, greet } from './greeting.ts'
import { createOutbox, type Outbox } from './outbox.ts'
import { createPace } from './pace.ts'

/** A sidecar that is connected, and what it last said of itself. */
export type Connected = {
  readonly podUid: string
  readonly pod: string
  readonly namespace: string
  readonly version: string
  /** What the stream was authenticated with. */
  readonly presented: Pick<VerifiedPeer, 'serial' | 'notAfter'>
  status?: Status
  /** Features of policies that its version does not know: it refuses what they cover. */
  readonly lacks?: readonly string[]
  /** The latest `state` that it was sent. */
  told?: { readonly version: number; readonly at: string }
  /** Ports with TLS that its version does not know: they are strict to it. */
  closedTlsPorts?: readonly number[]
  /** Ends the stream in good order: the sidecar comes back, perhaps elsewhere. */
  close(): void
}

export type Refused = { readonly address: string | undefined; readonly identity?: string }

export type StreamContext = {
  readonly directory: Directory
  /** Of our own trust domain. */
  readonly trust: Live<OwnTrust>
  readonly revocations: Revocations
  readonly federation: Pick<Federation, 'partners' | 'clients'>
  readonly clock: Clock
  readonly log: Logger
  onConnected(sidecar: Connected): void
  onStatus(sidecar: Connected): void
  /** Its `closedTlsPorts` are others now. */
  onTlsPortsClosed?(sidecar: Connected): void
  onEnded(sidecar: Connected): void
  /** Counts and logs it. */
  onRefused(refusal: PosternError, peer: Refused, what: string): void
}

export const STREAM_LIMITS = {
  addresses: 16_384,
  /** What may wait for a reader when more is due. */
  unreadBytes: 4 * 1024 * 1024,
} as const

/** Runs until the stream ends; never throws. */
export async function serveStream(
  stream: ServerHttp2Stream,
  peer: VerifiedPeer,
  context: StreamContext,
): Promise<void> {
  const { directory, revocations, clock, onRefused } = context
  const over = new AbortController()
  stream.once('close', () => over.abort())
  // Whoever reads the stream gets the same error.
  stream.on('error', () => undefined)
  try {
    const incoming = lines(stream, MAX_LINE_BYTES.fromSidecar)
    const greeted = await greet(incoming, peer, { directory, revocations, clock, signal: over.signal })
    stream.respond({
      ':status': 200,
      'content-type': 'application/x-ndjson',
      [FEATURES_HEADER]: STATUS_EXTENSIONS.join(', '),
    })
    await converse(stream, incoming, { ...greeted, peer }, over.signal, context)
  } catch (thrown) {
    if (over.signal.aborted || stream.destroyed) return
    const refusal = asPosternError(thrown, 'PSTN_CONTROL_MALFORMED')
    onRefused(refusal, peer, 'control stream refused')
    refuse(stream, refusal.code, refusal.message)
  }
}

/** Before the answer a refusal is a 403 with its code and reason; later the stream can only break. */
export function refuse(stream: ServerHttp2Stream, code: Code, reason: string): void {
  if (stream.headersSent) {
    stream.close(constants.NGHTTP2_PROTOCOL_ERROR)
    return
  }
  stream.respond({ ':status': 403, 'postern-code': code, 'content-type': 'text/plain; charset=utf-8' })
  finish(stream, `${reason}\n`)
  stream.resume()
}

/** Ends both sides: NO_ERROR asks the sidecar to stop sending (RFC 9113, section 8.1), once it can read the end. */
function finish(stream: ServerHttp2Stream, last = ''): void {
  stream.end(last, () => setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR)))
}

async function converse(
  stream: ServerHttp2Stream,
  incoming: AsyncIterable<string>,
  { hello, peer, admission: { pod, namespace } }: Greeted & { readonly peer: VerifiedPeer },
  over: AbortSignal,
  context: StreamContext,
): Promise<void> {
  const { directory, trust, revocations, federation, clock, log } = context
  const { podUid, version, features } = hello
  const end = () => finish(stream)
  const lacks = FEATURES.filter(feature => !features.includes(feature))
  const sidecar: Connected = { podUid, pod, namespace, version, presented: peer, lacks, close: end }
  const outbox = createOutbox({
    world: directory.world,
    podUid,
    features,
    trust: trust.get,
    revocations,
    federation,
    onTlsPortsClosed: ports => {
      sidecar.closedTlsPorts = ports
      context.onTlsPortsClosed?.(sidecar)
    },
    send: message => {
      if (message.kind === 'state')
        sidecar.told = { version: message.version, at: new Date(clock.now()).toISOString() }
      send(stream, message, log.child({ pod, namespace }))
    },
  })
  const refreshState = () => {
    if (!outbox.refreshState()) end()
  }
  const stops = [
    trust.subscribe(refreshState),
    revocations.renewals.subscribe(refreshState),
    federation.partners.subscribe(refreshState),
    federation.clients.subscribe(refreshState),
    revocations.revoked.subscribe(() => {
      // Whose certificate is revoked has lost its session by now; this is for those that do not name their pod.
      if (revocations.check.get()?.({ podUid }) === undefined) refreshState()
      else end()
    }),
    directory.subscribe(changes => {
      const { everything, pods, namespaces } = changes
      if (everything || pods.has(podUid) || namespaces.has(namespace)) refreshState()
      outbox.refreshAddresses(changes)
    }),
  ]
  let heardAt = clock.monotonic()
  const isLost = () => clock.monotonic() - heardAt > LOST_AFTER_MS
  const pace = createPace(clock)
  context.onConnected(sidecar)
  try {
    refreshState()
    void beat(stream, isLost, over, context)
    for await (const line of incoming) {
      heardAt = clock.monotonic()
      receive(decodeFromSidecar(line), sidecar, outbox, context)
      const waitMs = pace(line.length)
      if (waitMs > 0) await clock.sleep(waitMs, over)
    }
    end()
  } finally {
    for (const stop of stops) stop()
    context.onEnded(sidecar)
  }
}

function receive(
  message: FromSidecar,
  sidecar: Connected,
  outbox: Outbox,
  { onStatus }: StreamContext,
): void {
  switch (message.kind) {
    case 'hello':
      throw new PosternError('PSTN_CONTROL_MALFORMED', 'a second hello')
    case 'subscribe': {
      const { length } = message.addresses
      if (length > STREAM_LIMITS.addresses) {
        throw new PosternError('PSTN_LIMIT', `${length} addresses; at most ${STREAM_LIMITS.addresses}`)
      }
      outbox.subscribe(message.addresses)
      break
    }
    case 'status':
      sidecar.status = message
      onStatus(sidecar)
  }
}

/** Says that we live, and ends the stream of a sidecar that does not. */
async function beat(
  stream: ServerHttp2Stream,
  isLost: () => boolean,
  over: AbortSignal,
  { clock, log }: StreamContext,
): Promise<void> {
  while (!over.aborted) {
    await clock.sleep(HEARTBEAT_MS, over).catch(() => undefined)
    if (over.aborted) return
    if (isLost()) return stream.close(constants.NGHTTP2_CANCEL)
    send(stream, { kind: 'addresses', entries: [] }, log)
  }
}

/** A reader that lets too much pile up is cut off: when it comes back it gets the full state, not the backlog. */
function send(stream: ServerHttp2Stream, message: FromInjector, log: Logger): void {
  if (stream.destroyed || stream.writableEnded) return
  if (stream.writableLength > STREAM_LIMITS.unreadBytes) {
    const slow = new PosternError('PSTN_LIMIT', `${stream.writableLength} bytes wait for the reader`)
    log.warn(failure(slow, 'PSTN_LIMIT'), 'control stream cut off')
    stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
  } else stream.write(`${JSON.stringify(message)}\n`)
}
