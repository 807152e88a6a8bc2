// What was let in and still lives. Each is in its set before it is decided on, and leaves it when it ends, is refused or
// is revoked: whoever walks the set after a change meets exactly those that the change may concern.
import { type Code, PosternError } from '../../shared/errors.ts'
import type { CompiledPolicy } from '../../shared/policy/compile.ts'
import { evaluate, inboundMode } from '../../shared/policy/evaluate.ts'
import type { Caller, Decision, HttpRequest, PolicyRequest } from '../../shared/policy/model.ts'
import type { Protocol } from '../../shared/protocol.ts'

type Refusal = {
  readonly code: Code
  readonly reason: string
  readonly policy?: string
  readonly rule?: number
}

/** Why a grant ended before its time: a policy that came later, or another protocol. */
export class Revoked extends PosternError {
  readonly policy: string | undefined
  readonly rule: number | undefined

  constructor({ code, reason, policy, rule }: Refusal) {
    super(code, reason)
    this.policy = policy
    this.rule = rule
  }
}

/** A connection. Disposing it ends the watch. */
export type Grant = Disposable & {
  readonly decision: Decision
  /**
   * What the connection speaks, for all its life. Undefined: opaque bytes, and everything has been decided. Otherwise
   * each request is still to be authorized, so that its caller gets an answer instead of a closed connection.
   */
  readonly protocol: Protocol | undefined
  /** Aborts with Revoked. */
  readonly signal: AbortSignal
}

/** A request. What forbids it later is told to the `onRevoked` that it was asked for with, once. */
export type RequestGrant = Disposable & { readonly decision: Decision }

const PASSED: Decision = Object.freeze({ allow: true })

export class LiveConnection implements Grant {
  readonly decision: Decision
  readonly protocol: Protocol | undefined
  readonly #live: Set<LiveConnection>
  readonly #request: PolicyRequest
  readonly #abort = new AbortController()

  /** @throws PosternError PSTN_NOT_READY */
  constructor(
    live: Set<LiveConnection>,
    compiled: () => CompiledPolicy | undefined,
    { caller, port, protocol }: { caller: Caller; port: number; protocol: Protocol | undefined },
  ) {
    this.#live = live
    this.#request = { caller, port }
    this.protocol = protocol
    this.decision = registered(live, this, () => this.#decide(compiled()))
  }

  get port(): number {
    return this.#request.port
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Plaintext must pass the mode; a connection of requests needs to pass nothing else. */
  #decide(compiled: CompiledPolicy | undefined): Decision {
    if (this.protocol === undefined) return decide(compiled, this.#request)
    return refusedByMode(ready(compiled), this.#request) ?? PASSED
  }

  recheck(compiled: CompiledPolicy | undefined): void {
    const why = forbidden(() => this.#decide(compiled))
    if (why) this.revoke(why)
  }

  revoke(why: Revoked): void {
    this.#live.delete(this)
    this.#abort.abort(why)
  }

  [Symbol.dispose](): void {
    this.#live.delete(this)
  }
}

/** As cheap as can be: it is the request that the policy sees, the grant, and its own entry in the set. */
export class LiveRequest implements RequestGrant, PolicyRequest {
  readonly caller: Caller
  readonly port: number
  readonly http: HttpRequest
  readonly decision: Decision
  readonly #live: Set<LiveRequest>
  readonly #onRevoked: (why: Revoked) => void

  /** @throws PosternError PSTN_NOT_READY */
  constructor(
    live: Set<LiveRequest>,
    compiled: () => CompiledPolicy | undefined,
    { caller, port, http }: { caller: Caller; port: number; http: HttpRequest },
    onRevoked: (why: Revoked) => void,
  ) {
    this.caller = caller
    this.port = port
    this.http = http
    this.#live = live
    this.#onRevoked = onRevoked
    this.decision = registered(live, this, () => decide(compiled(), this))
  }

  recheck(compiled: CompiledPolicy | undefined): void {
    const why = forbidden(() => decide(compiled, this))
    if (!why) return
    this.#live.delete(this)
    this.#onRevoked(why)
  }

  [Symbol.dispose](): void {
    this.#live.delete(this)
  }
}

function registered<T>(live: Set<T>, grant: T, decision: () => Decision): Decision {
  live.add(grant)
  let allowed = false
  try {
    const decided = decision()
    allowed = decided.allow
    return decided
  } finally {
    if (!allowed) live.delete(grant)
  }
}

function forbidden(decision: () => Decision): Revoked | undefined {
  try {
    const decided = decision()
    return decided.allow ? undefined : new Revoked(decided)
  } catch (thrown) {
    if (thrown instanceof PosternError) return new Revoked({ code: thrown.code, reason: thrown.message })
    throw thrown
  }
}

/** Plaintext must pass the mode before any policy is asked. */
function decide(compiled: CompiledPolicy | undefined, request: PolicyRequest): Decision {
  const policy = ready(compiled)
  return refusedByMode(policy, request) ?? evaluate(policy, request)
}

function ready(compiled: CompiledPolicy | undefined): CompiledPolicy {
  if (!compiled) throw new PosternError('PSTN_NOT_READY', 'no policy has arrived yet')
  return compiled
}

const refusedByMode = (compiled: CompiledPolicy, { caller, port }: PolicyRequest): Decision | undefined =>
  caller.identity === undefined && inboundMode(compiled, port) === 'strict'
    ? { allow: false, code: 'PSTN_PLAINTEXT_REFUSED', reason: `port ${port} is in strict mode` }
    : undefined
