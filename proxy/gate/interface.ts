// What the request gate is given and what it tells, the same for both protocols. A gate stands where splice() stands on
// a port that is declared HTTP: it reads every request, asks whether it may pass, and forwards what it has read.
import type { EndSignal } from '../../shared/ending.ts'
import type { PosternError } from '../../shared/errors.ts'
import type { EndUser } from '../../shared/policy/end-user.ts'
import type { Decision, HttpRequest } from '../../shared/policy/model.ts'
import type { RequestHeaders } from '../../shared/policy/request-headers.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'

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

/** Who the end user of a request is, and how its head is to be forwarded. */
export type Authenticated = {
  readonly user: EndUser | undefined
  /** A header of the caller's that is not forwarded: a token, or what only we may say. */
  removes(name: string): boolean
  readonly adds: readonly (readonly [name: string, value: string])[]
}

export type RequestAuthenticator = {
  /** Undefined: nobody's tokens are read. @throws PosternError PSTN_JWT_…, PSTN_JWKS_UNAVAILABLE, PSTN_POLICY_UNSUPPORTED */
  authenticate(headers: () => RequestHeaders): Authenticated | undefined
  /** A header that only the sidecar may write, in trailers too. */
  owns(name: string): boolean
}

export type GateOptions = {
  /** Ends the connection at once: both sides are reset. */
  readonly signal: EndSignal
  /** The sidecar takes nothing new: the connection ends in order as soon as nothing is under way. */
  readonly draining?: EndSignal
  readonly authorize: AuthorizeRequest
  /** Asked before `authorize`; absent where nobody has a token. */
  readonly authenticator?: RequestAuthenticator
  /** Whether requests are to be authorized with their headers. */
  readonly readsHeaders: () => boolean
  /** The value of x-forwarded-client-cert; undefined where the caller is not identified. Every other one is removed. */
  readonly forwardedClientCert: string | undefined
  readonly onRequest: (outcome: RequestOutcome) => void
  /** Counted while the connection lives: `a` is the caller, and what the gate answers by itself counts too. */
  readonly traffic: { aToB: number; bToA: number }
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** How long a caller may take for one head; HEAD_TIMEOUT_MS unless told. */
  readonly headTimeoutMs?: number
  /** How long a caller that was told the end may go on sending; LINGER_MS unless told. */
  readonly lingerMs?: number
}

/** How it ended, as splice() says it. */
export type Gated = {
  readonly outcome: 'ended' | 'reset' | 'aborted'
  /** Of `aborted`, where the gate ended it by itself: a revoked request, or what could not be read. */
  readonly reason?: unknown
}

/** In place of splice(): never rejects; after it, both are closed. */
export type Gate = (caller: ByteStream, application: ByteStream, options: GateOptions) => Promise<Gated>

export const HEAD_TIMEOUT_MS = 30_000
export const LINGER_MS = 5_000
