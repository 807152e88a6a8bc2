// The header lists of HBONE: what a request says if it is a CONNECT (RFC 9113, section 8.5), what an answer says, and how
// both are written.
import { Http2Error } from '../http2/errors.ts'
import { readRequest, readResponse } from '../http2/fields.ts'
import type { Header } from '../http2/header.ts'

export type ConnectRequest = {
  readonly kind: 'connect'
  readonly authority: string
  readonly headers: Readonly<Record<string, string>>
}

export type TunnelHead =
  | ConnectRequest
  /** Well-formed, but nothing that a tunnel does. */
  | { readonly kind: 'other'; readonly method: string }
  | { readonly kind: 'malformed'; readonly why: string }

export type Answer = { readonly status: number; readonly code: string | undefined }

/** Headers of HBONE that travel with a connection. */
const KEPT = new Set(['traceparent', 'tracestate', 'baggage', 'forwarded'])

export function readConnect(list: readonly Header[], streamId: number): TunnelHead {
  try {
    const { method, authority, protocol, fields } = readRequest(list, streamId)
    if (method !== 'CONNECT' || protocol !== undefined || authority === undefined)
      return { kind: 'other', method }
    const kept = fields.filter(([name]) => KEPT.has(name))
    return { kind: 'connect', authority, headers: Object.fromEntries(kept) }
  } catch (thrown) {
    if (thrown instanceof Http2Error) return { kind: 'malformed', why: thrown.message }
    throw thrown
  }
}

/** Undefined: malformed. */
export function readAnswer(list: readonly Header[], streamId: number): Answer | undefined {
  try {
    const { status, fields } = readResponse(list, streamId)
    return { status, code: fields.find(([name]) => name === 'postern-code')?.[1] }
  } catch (thrown) {
    if (thrown instanceof Http2Error) return undefined
    throw thrown
  }
}

export const writeConnect = (authority: string, headers: Readonly<Record<string, string>>): Header[] => [
  [':method', 'CONNECT'],
  [':authority', authority],
  ...Object.entries(headers),
]

export const writeAnswer = (status: number, code?: string): Header[] => [
  [':status', String(status)],
  ...(code === undefined ? [] : [['postern-code', code] as const]),
]
