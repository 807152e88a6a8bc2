// Authorize: each connection is registered before it is decided on, so that no change of policy can slip between the
// decision and the connection's life; a change decides on all that live again and ends what it forbids.
import { PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { CompiledPolicy } from '../../shared/policy/compile.ts'
import { evaluate, inboundMode } from '../../shared/policy/evaluate.ts'
import type { Caller, Decision } from '../../shared/policy/model.ts'

type Denied = Extract<Decision, { allow: false }>

/** The reason of a grant's signal: a policy that came later forbids the connection. */
export class Revoked extends PosternError {
  readonly policy: string | undefined
  readonly rule: number | undefined

  constructor({ code, reason, policy, rule }: Denied) {
    super(code, reason)
    this.policy = policy
    this.rule = rule
  }
}

export type Grant = Disposable & {
  readonly decision: Decision
  /** Aborts with Revoked. Disposing the grant ends the watch. */
  readonly signal: AbortSignal
}

export type Authorizer = Disposable & {
  /** @throws PosternError PSTN_NOT_READY before the first policy. */
  authorize(caller: Caller, port: number): Grant
}

/** Undefined: no policy has arrived yet, which is not the same as an empty one. */
export function createAuthorizer(policy: Live<CompiledPolicy | undefined>): Authorizer {
  const registered = new Set<{ caller: Caller; port: number; revoke: AbortController }>()

  const stop = policy.subscribe(compiled => {
    for (const { caller, port, revoke } of registered) {
      const decision = decide(compiled, caller, port)
      if (!decision.allow) revoke.abort(new Revoked(decision))
    }
  })

  return {
    authorize: (caller, port) => {
      const entry = { caller, port, revoke: new AbortController() }
      registered.add(entry)
      const release = () => registered.delete(entry)
      try {
        const decision = decide(policy.get(), caller, port)
        if (!decision.allow) release()
        return { decision, signal: entry.revoke.signal, [Symbol.dispose]: release }
      } catch (thrown) {
        release()
        throw thrown
      }
    },
    [Symbol.dispose]: stop,
  }
}

/** Plaintext must pass the mode before any policy is asked. */
function decide(compiled: CompiledPolicy | undefined, caller: Caller, port: number): Decision {
  if (!compiled) throw new PosternError('PSTN_NOT_READY', 'no policy has arrived yet')
  if (caller.identity === undefined && inboundMode(compiled, port) === 'strict') {
    return { allow: false, code: 'PSTN_PLAINTEXT_REFUSED', reason: `port ${port} is in strict mode` }
  }
  return evaluate(compiled, { caller, port })
}
