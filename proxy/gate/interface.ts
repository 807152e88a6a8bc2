// What the request gate is given and what it tells, the same for both protocols. A gate stands where splice() stands on
// a port that is declared HTTP: it reads every request, asks whether it may pass, and forwards what it has read.
import type { PosternError } from '../../shared/errors.ts'
import type { Decision } from '../../shared/policy/model.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'

/** Declared for an application port; a port without one is opaque bytes. */
export type Protocol = 'http1' | 'http2'

/** What a policy can ask of a request: the very form in which it is forwarded. */
export type HttpRequest = {
  /** Case-sensitive. */
  readonly method: string
  /** Lower case, without the port; empty where HTTP/1.0 gave none. */
  readonly host: string
  /** Normalized (shared/http/path.ts), without the query; `*` for the server itself. */
  readonly path: string
}

/** A request that lives: until it is disposed of, a new policy that forbids it is told to `onRevoked`, once. */
export type RequestGrant = Disposable & { readonly decision: Decision }

/** @throws PosternError PSTN_NOT_READY */
export type AuthorizeRequest = (request: HttpRequest, onRevoked: (why: PosternError) => void) => RequestGrant

/** Why the gate answered by itself, or cut a request off. */
export type RequestRefusal = {
  readonly code: PosternError['code']
  readonly reason: string
  readonly policy?: string | undefined
  readonly rule?: number | undefined
}

/** What became of one request, told once, at its end. */
export type RequestOutcome = {
  /** Undefined: the head could not be read. */
  readonly request: HttpRequest | undefined
  /** The final status that the caller got; 0 where the connection ended before there was one. */
  readonly status: number
  readonly refusal: RequestRefusal | undefined
  readonly durationMs: number
}

export type GateOptions = {
  /** Ends the connection at once: both sides are reset. */
  readonly signal: AbortSignal
  readonly authorize: AuthorizeRequest
  /** The value of x-forwarded-client-cert; undefined where the caller is not identified. Every other one is removed. */
  readonly forwardedClientCert: string | undefined
  readonly onRequest: (outcome: RequestOutcome) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** How long a caller may take for one head; HEAD_TIMEOUT_MS unless told. */
  readonly headTimeoutMs?: number
}

/** As splice() reports: `a` is the caller. */
export type Gated = {
  readonly aToB: number
  readonly bToA: number
  readonly outcome: 'ended' | 'reset' | 'aborted'
  /** Why the gate ended it by itself: `aborted`, a revoked request, or what could not be read. */
  readonly reason?: unknown
}

/** In place of splice(): never rejects; after it, both are closed. */
export type Gate = (caller: ByteStream, application: ByteStream, options: GateOptions) => Promise<Gated>

export const HEAD_TIMEOUT_MS = 30_000
