// The HTTP/2 gate on a real socket in front of a real application, with a policy that the test changes.
import { once } from 'node:events'
import type { Http2Server } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { gateHttp2 } from '../../proxy/gate/http2/gate.ts'
import type { Gated, GateOptions, RequestOutcome } from '../../proxy/gate/interface.ts'
import { listenTcp } from '../../proxy/tcp/accept.ts'
import type { TcpStream } from '../../proxy/tcp/tcp-stream.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Decision, HttpRequest } from '../../shared/policy/model.ts'
import { dialTcp, portOf } from './tcp-pair.ts'

export const CLIENT_CERT =
  'By=spiffe://cluster.local/ns/shop/sa/cart;Hash=ab;URI=spiffe://cluster.local/ns/shop/sa/web'

export const DENIED: Decision = {
  allow: false,
  code: 'PSTN_POLICY_DENIED',
  reason: 'no ALLOW policy matches',
  policy: 'shop/api',
}

export type TestGate = AsyncDisposable & {
  readonly port: number
  readonly outcomes: RequestOutcome[]
  readonly ends: Gated[]
  readonly traffic: { aToB: number; bToA: number }
  /** Requests that are allowed now and have not ended. */
  readonly grants: ReadonlySet<HttpRequest>
  /** Another policy: what it forbids of the live requests is revoked. */
  decide(policy: (request: HttpRequest) => Decision): void
  abort(reason: Error): void
  /** Resolves when `count` requests have ended. */
  ended(count: number): Promise<void>
}

export async function startGate(
  application: Http2Server | { address(): ReturnType<Http2Server['address']> },
  overrides: Partial<GateOptions> = {},
): Promise<TestGate> {
  let decide: (request: HttpRequest) => Decision = () => ({ allow: true })
  const grants = new Map<HttpRequest, (why: PosternError) => void>()
  const controller = new AbortController()
  const streams = new Set<TcpStream>()
  const outcomes: RequestOutcome[] = []
  const ends: Gated[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  const traffic = { aToB: 0, bToA: 0 }
  const options: GateOptions = {
    signal: controller.signal,
    readsHeaders: () => false,
    authorize: (request, onRevoked) => {
      const decision = decide(request)
      if (decision.allow) grants.set(request, onRevoked)
      return { decision, [Symbol.dispose]: () => void grants.delete(request) }
    },
    forwardedClientCert: CLIENT_CERT,
    onRequest: outcome => {
      outcomes.push(outcome)
      for (const { count, resolve } of waiting) if (outcomes.length >= count) resolve()
    },
    traffic,
    now: () => performance.now(),
    ...overrides,
  }
  const server = await listenTcp(
    { host: '127.0.0.1', port: 0 },
    async caller => {
      const dialled = await dialTcp((application.address() as AddressInfo).port)
      for (const stream of [caller, dialled]) streams.add(stream)
      ends.push(await gateHttp2(caller, dialled, options))
    },
    error => {
      throw error
    },
  )
  return {
    port: portOf(server),
    outcomes,
    ends,
    traffic,
    get grants() {
      return new Set(grants.keys())
    },
    decide: policy => {
      decide = policy
      for (const [request, revoke] of grants) {
        const decision = policy(request)
        if (!decision.allow) revoke(Object.assign(new PosternError(decision.code, decision.reason), decision))
      }
    },
    abort: reason => controller.abort(reason),
    ended: count => {
      const { promise, resolve } = Promise.withResolvers<void>()
      if (outcomes.length >= count) resolve()
      waiting.push({ count, resolve })
      return promise
    },
    [Symbol.asyncDispose]: async () => {
      for (const stream of streams) stream.close()
      server.close()
      await once(server, 'close')
    },
  }
}
