// What is known of a partner's bundle from its endpoint: one key for each trust domain in the ConfigMap postern-partners, which
// the leader writes, all replicas read, and `postern partners` shows.
import { type Decode, integer, listOf, object, optional, refuse, text } from '../decode.ts'
import { asPosternError, PosternError } from '../errors.ts'
import { parseCertificate } from '../x509/certificate.ts'

export type FetchFailure = {
  /** PSTN_PARTNER_…: UNREACHABLE, INVALID, STALE or UNSETTLED. */
  readonly code: string
  readonly reason: string
  /** Of the first of them in a row. */
  readonly since: string
  /** In a row, 1 or more. */
  readonly failures: number
}

export type FetchedBundle = {
  readonly url: string
  /** PEM, one each. Empty: there never was a bundle. */
  readonly roots: readonly string[]
  /** As SPIFFE has it: 64 bits, in decimal. */
  readonly sequence?: string
  readonly refreshHintSeconds?: number
  /** When the roots were last confirmed by the endpoint. */
  readonly fetchedAt?: string
  /** How many answers in a row were older than this one. */
  readonly older?: number
  /** Each change of the roots moves it on, and one that would move it too far is held back: how often all sidecars are told is not the partner's to say. */
  readonly pacedUntil?: string
  /** Of the latest attempt. */
  readonly failure?: FetchFailure
}

const filled = text(value => value !== '', 'a string that is not empty')
const time = text(value => !Number.isNaN(Date.parse(value)), 'a time')
const count = integer(0, Number.MAX_SAFE_INTEGER)

/** As people edit the ConfigMap, or put back an old one: all who read the roots count on certificates. */
const root: Decode<string> = (value, where) => {
  const pem = filled(value, where)
  try {
    return parseCertificate(pem).pem
  } catch {
    throw refuse(where, 'must be a certificate')
  }
}

const decode: Decode<FetchedBundle> = object<FetchedBundle>({
  url: filled,
  roots: listOf(root),
  sequence: optional(text(value => /^\d{1,20}$/.test(value), 'an integer of 64 bits')),
  refreshHintSeconds: optional(count),
  fetchedAt: optional(time),
  older: optional(count),
  pacedUntil: optional(time),
  failure: optional(
    object<FetchFailure>({ code: filled, reason: text(() => true, ''), since: time, failures: count }),
  ),
})

/** @throws PosternError PSTN_PARTNER_INVALID */
export function parseFetched(trustDomain: string, json: string): FetchedBundle {
  try {
    return decode(JSON.parse(json), trustDomain)
  } catch (cause) {
    const { message } = asPosternError(cause, 'PSTN_PARTNER_INVALID')
    throw new PosternError('PSTN_PARTNER_INVALID', message, { cause })
  }
}

export const writeFetched = (fetched: FetchedBundle): string => `${JSON.stringify(fetched, null, 2)}\n`
