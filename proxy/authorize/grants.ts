// What was let in and still lives. Each is in its set before it is decided on, and leaves it when it ends, is refused or
// is revoked: whoever walks the set after a change meets exactly those that the change may concern.
import type { ChurnSet } from '../../shared/churn.ts'
import { Ending, type EndSignal } from '../../shared/ending.ts'
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { CompiledPolicy } from '../../shared/policy/compile.ts'
import type { EndUser } from '../../shared/policy/end-user.ts'
import { evaluate, evaluateAnyRequest, observe, refusedByMode } from '../../shared/policy/evaluate.ts'
import type { Caller, Decision, HttpRequest, Observed, PolicyRequest } from '../../shared/policy/model.ts'
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
  /** What is to be recorded beside it, of opaque bytes. */
  readonly observed: Observed | undefined
  /**
   * What the connection speaks, for all its life. Undefined: opaque bytes, and everything has been decided. Otherwise
   * some request of its caller could pass, and each is still to be authorized.
   */
  readonly protocol: Protocol | undefined
  /** Aborts with Revoked, or with why every connection is ended. */
  readonly signal: EndSignal
  /** Ends it before its time. */
  revoke(why: PosternError): void
}

/** A request. What forbids it later is told to the `onRevoked` that it was asked for with, once. */
export type RequestGrant = Disposable & {
  readonly decision: Decision
  readonly observed: Observed | undefined
}

/** What is decided by, and all that live by it. */
export type Watched<T> = {
  readonly policy: Live<CompiledPolicy | undefined>
  readonly all: ChurnSet<T>
}

export class LiveConnection implements Grant {
  readonly decision: Decision
  readonly observed: Observed | undefined
  readonly protocol: Protocol | undefined
  readonly request: PolicyRequest
  readonly signal = new Ending()
  readonly #all: ChurnSet<LiveConnection>

  /** @throws PosternError PSTN_NOT_READY */
  constructor(
    { policy, all }: Watched<LiveConnection>,
    request: PolicyRequest,
    protocol: Protocol | undefined,
  ) {
    this.request = request
    this.protocol = protocol
    this.#all = all
    all.add(this)
    let decision: Decision | undefined
    try {
      decision = decideConnection(policy.get(), this)
    } finally {
      if (!decision?.allow) all.delete(this)
    }
    this.decision = decision
    this.observed = protocol === undefined ? observed(policy.get(), request, decision) : undefined
  }

  recheck(compiled: CompiledPolicy | undefined): void {
    const why = forbidden(decideConnection, compiled, this)
    if (why) this.revoke(why)
  }

  revoke(why: PosternError): void {
    this.#all.delete(this)
    this.signal.abort(why)
  }

  [Symbol.dispose](): void {
    this.#all.delete(this)
  }
}

/** As cheap as can be: it is the request that the policy sees, the grant, and its own entry in the set. */
export class LiveRequest implements RequestGrant, PolicyRequest {
  readonly caller: Caller
  readonly port: number
  readonly address: string
  readonly http: HttpRequest
  readonly decision: Decision
  readonly observed: Observed | undefined
  readonly #all: ChurnSet<LiveRequest>
  readonly #onRevoked: (why: Revoked) => void

  /** @throws PosternError PSTN_NOT_READY */
  constructor(
    { policy, all }: Watched<LiveRequest>,
    caller: Caller,
    { address, port }: { readonly address: string; readonly port: number },
    http: HttpRequest,
    onRevoked: (why: Revoked) => void,
  ) {
    this.caller = caller
    this.port = port
    this.address = address
    this.http = http
    this.#all = all
    this.#onRevoked = onRevoked
    all.add(this)
    let decision: Decision | undefined
    try {
      decision = decide(policy.get(), this)
    } finally {
      if (!decision?.allow) all.delete(this)
    }
    this.decision = decision
    this.observed = observed(policy.get(), this, decision)
  }

  recheck(compiled: CompiledPolicy | undefined): void {
    this.#endFor(forbidden(decide, compiled, this))
  }

  judgeUser(judge: (user: EndUser) => PosternError | undefined): void {
    const why = this.http.user && judge(this.http.user)
    this.#endFor(why && new Revoked({ code: why.code, reason: why.message }))
  }

  #endFor(why: Revoked | undefined): void {
    if (!why) return
    this.#all.delete(this)
    this.#onRevoked(why)
  }

  [Symbol.dispose](): void {
    this.#all.delete(this)
  }
}

type Decide<T> = (compiled: CompiledPolicy | undefined, asked: T) => Decision

/** Requests are decided on one by one: their connection is refused where none of them could pass. */
const decideConnection: Decide<Pick<LiveConnection, 'protocol' | 'request'>> = (
  compiled,
  { protocol, request },
) => (protocol === undefined ? decide(compiled, request) : decide(compiled, request, evaluateAnyRequest))

/** Plaintext must pass the mode before any policy is asked. */
function decide(
  compiled: CompiledPolicy | undefined,
  request: PolicyRequest,
  evaluateIt: typeof evaluate = evaluate,
): Decision {
  const policy = ready(compiled)
  return refusedByMode(policy, request) ?? evaluateIt(policy, request)
}

/** What the mode refuses, no policy is asked about. */
function observed(
  compiled: CompiledPolicy | undefined,
  request: PolicyRequest,
  decision: Decision,
): Observed | undefined {
  if (compiled?.watch === undefined || refusedByMode(compiled, request)) return undefined
  return observe(compiled, request, decision)
}

function forbidden<T>(
  decide: Decide<T>,
  compiled: CompiledPolicy | undefined,
  asked: T,
): Revoked | undefined {
  try {
    const decision = decide(compiled, asked)
    return decision.allow ? undefined : new Revoked(decision)
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_NOT_READY')
    return new Revoked({ code, reason: message })
  }
}

function ready(compiled: CompiledPolicy | undefined): CompiledPolicy {
  if (!compiled) throw new PosternError('PSTN_NOT_READY', 'no policy has arrived yet')
  return compiled
}
