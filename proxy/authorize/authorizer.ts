// Authorize: who may open a connection, and which requests may pass on it, for as long as they live. A change of policy
// decides on all of them again and ends what it forbids.
import { ChurnSet } from '../../shared/churn.ts'
import { callAll } from '../../shared/ending.ts'
import type { PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { CompiledPolicy } from '../../shared/policy/compile.ts'
import type { EndUser } from '../../shared/policy/end-user.ts'
import type { Caller, HttpRequest } from '../../shared/policy/model.ts'
import { type Protocols, protocolOf } from '../../shared/protocol.ts'
import { type Grant, LiveConnection, LiveRequest, type RequestGrant, Revoked } from './grants.ts'

/** Of the application, as it was dialled. */
type Destination = { readonly address: string; readonly port: number }

export type Authorizer = Disposable & {
  /**
   * A connection to a port of the application. Its grant says what it speaks.
   * @throws PosternError PSTN_NOT_READY before the first policy.
   */
  authorizeConnection(caller: Caller, to: Destination): Grant
  /**
   * A request on such a connection, for each of them: one small object, and no promise.
   * @throws PosternError PSTN_NOT_READY before the first policy.
   */
  authorizeRequest(
    caller: Caller,
    to: Destination,
    http: HttpRequest,
    onRevoked: (why: Revoked) => void,
  ): RequestGrant
  /** Whether a policy asks for headers of requests. */
  readsHeaders(): boolean
  /** Ends requests whose end user `judge` finds to be none any more. */
  judgeUsers(judge: (user: EndUser) => PosternError | undefined): void
  /** Ends every connection that was let in. */
  endAll(why: PosternError): void
}

/** `policy` is undefined until one has arrived, which is not the same as an empty one. */
export function createAuthorizer(
  policy: Live<CompiledPolicy | undefined>,
  protocols: Live<Protocols>,
): Authorizer {
  const connections = { policy, all: new ChurnSet<LiveConnection>() }
  const requests = { policy, all: new ChurnSet<LiveRequest>() }

  const stops = [
    policy.subscribe(compiled => {
      const steps = [
        // Before what else may end them: the reason that a reader can do something about.
        () => closeChanged(connections.all, protocols.get()),
        () => callAll(connections.all, connection => connection.recheck(compiled)),
        () => callAll(requests.all, request => request.recheck(compiled)),
      ]
      // One that fails to end keeps nobody else alive.
      callAll(steps, step => step())
    }),
    protocols.subscribe(declared => closeChanged(connections.all, declared)),
  ]
  return {
    authorizeConnection: (caller, { address, port }) =>
      new LiveConnection(connections, { caller, address, port }, protocolOf(protocols.get(), port)),
    authorizeRequest: (caller, to, http, onRevoked) => new LiveRequest(requests, caller, to, http, onRevoked),
    readsHeaders: () => policy.get()?.readsHeaders ?? false,
    judgeUsers: judge => callAll(requests.all, request => request.judgeUser(judge)),
    endAll: why => callAll(connections.all, connection => connection.revoke(why)),
    [Symbol.dispose]: () => {
      for (const stop of stops) stop()
    },
  }
}

/**
 * A connection cannot change what it speaks. One of opaque bytes would go on past every rule about requests, and one of
 * requests past the rules for opaque bytes: it is closed, and its caller comes back to what holds now.
 */
function closeChanged(connections: Iterable<LiveConnection>, declared: Protocols): void {
  callAll(connections, connection => {
    const { protocol, request } = connection
    const { port } = request
    const now = protocolOf(declared, port)
    if (now === protocol) return
    const reason = `port ${port} was ${named(protocol)} and is now declared ${named(now)}`
    connection.revoke(new Revoked({ code: 'PSTN_PROTOCOL_CHANGED', reason }))
  })
}

const named = (protocol: string | undefined): string => protocol ?? 'opaque'
