// What the gate answers by itself: the code in a header, and nothing about the policy or the pod. There is no body, which
// would take from windows that the application keeps count of.
import type { Header } from '../../http2/header.ts'
import { CHALLENGE, type HttpRefusal } from '../refusal.ts'

/** As gRPC's "HTTP to gRPC status code mapping" has them. */
const GRPC_STATUS: { readonly [S in HttpRefusal['status']]?: number } = { 400: 13, 401: 16, 403: 7 }
const GRPC_UNAVAILABLE = 14

/** Ends the stream. A client of gRPC looks for the reason in trailers. */
export function ownAnswer({ status, code }: HttpRefusal, toGrpc: boolean): readonly Header[] {
  if (!toGrpc)
    return [
      [':status', `${status}`],
      ['postern-code', code],
      ['content-length', '0'],
      ...(status === 401 ? [['www-authenticate', CHALLENGE] as const] : []),
    ]
  return [
    [':status', '200'],
    ['content-type', 'application/grpc'],
    ['grpc-status', `${GRPC_STATUS[status] ?? GRPC_UNAVAILABLE}`],
    ['grpc-message', code],
    ['postern-code', code],
  ]
}

export const isGrpc = (request: readonly Header[]): boolean =>
  request.some(([name, value]) => name === 'content-type' && /^application\/grpc(?:$|[+;-])/.test(value))
