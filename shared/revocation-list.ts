// The list of revocations as operators keep it: the key `revocations.json` of the ConfigMap postern-revocations. Read as
// strictly by the injector as by the commands that write it, and never in part: an entry that is not understood may be the
// one that matters.
import { type Decode, listOf, object, oneOf, optional, refuse, tagged, text } from './decode.ts'
import { asPosternError, PosternError } from './errors.ts'
import type { Revoked } from './revocation.ts'
import { isSerial } from './revocation.ts'
import { parseSpiffeId } from './spiffe-id.ts'

type Noted = {
  /** ISO 8601, as every time here. */
  readonly since: string
  /** No longer in force from then on. Absent: until it is lifted. */
  readonly until?: string
  readonly reason: string
  readonly by: string
}

export type SerialRevocation = Noted & { readonly kind: 'serial'; readonly serial: string }
export type IdentityRevocation = Noted & { readonly kind: 'identity'; readonly identity: string }
export type PodRevocation = Noted & {
  readonly kind: 'pod'
  readonly namespace: string
  readonly name: string
  readonly uid: string
}
export type Revocation = SerialRevocation | IdentityRevocation | PodRevocation

export const REVOCATIONS_KEY = 'revocations.json'
export const RENEWALS_KEY = 'renewals.json'

/** Every sidecar holds the list, and it travels with each change of a sidecar's state. */
export const MAX_REVOCATIONS = 10_000
const MAX_TEXT = 200

const shortText = text(value => value.length <= MAX_TEXT, `text of at most ${MAX_TEXT} characters`)
const named = text(value => /^[a-z0-9][a-z0-9.-]{0,252}$/.test(value), 'a name as Kubernetes has them')
export const isoTime = text(
  value => /^\d{4}-\d\d-\d\dT/.test(value) && !Number.isNaN(Date.parse(value)),
  'a time such as 2026-11-21T12:00:00Z',
)

const identity: Decode<string> = (value, where) => {
  try {
    return parseSpiffeId(shortId(value, where)).id
  } catch (thrown) {
    throw refuse(where, asPosternError(thrown, 'PSTN_PEER_ID_INVALID').message)
  }
}
const shortId = text(() => true, 'a SPIFFE ID')

const noted = { since: isoTime, until: optional(isoTime), reason: shortText, by: shortText }

const decodeList = listOf(
  tagged<Revocation>({
    serial: object<SerialRevocation>({
      kind: oneOf(['serial']),
      serial: text(isSerial, 'a serial in lower-case hex, without colons'),
      ...noted,
    }),
    identity: object<IdentityRevocation>({ kind: oneOf(['identity']), identity, ...noted }),
    pod: object<PodRevocation>({
      kind: oneOf(['pod']),
      namespace: named,
      name: named,
      uid: text(value => /^[A-Za-z0-9-]{1,64}$/.test(value), 'a pod’s uid'),
      ...noted,
    }),
  }),
)

/**
 * `untouchable`: the injector's own identity. Who refused it could never be told that it is lifted.
 * @throws PosternError PSTN_REVOCATION_INVALID naming the place and the reason.
 */
export function parseRevocations(json: string | undefined, untouchable?: string): readonly Revocation[] {
  const list = readJson(REVOCATIONS_KEY, json, decodeList) ?? []
  if (list.length > MAX_REVOCATIONS) {
    throw invalid(`${REVOCATIONS_KEY}: ${list.length} entries; at most ${MAX_REVOCATIONS}`)
  }
  const own = list.findIndex(entry => entry.kind === 'identity' && entry.identity === untouchable)
  if (own >= 0) {
    const why = 'the injector’s own identity cannot be revoked: nobody would hear of anything any more'
    throw invalid(`${REVOCATIONS_KEY}[${own}].identity: ${why}`)
  }
  return list
}

/** A misspelt key would revoke nobody. @throws PosternError PSTN_REVOCATION_INVALID */
export function checkKeys(...parts: readonly (object | undefined)[]): void {
  const keys = parts.flatMap(part => Object.keys(part ?? {}))
  const unknown = keys.find(key => key !== REVOCATIONS_KEY && key !== RENEWALS_KEY)
  if (unknown === undefined) return
  throw invalid(`${unknown}: unknown key; there are ${REVOCATIONS_KEY} and ${RENEWALS_KEY}`)
}

/** One line each, so that `kubectl edit` and `diff` show entries. */
export const formatList = (list: readonly object[]): string =>
  list.length === 0 ? '[]\n' : `[\n${list.map(entry => `  ${JSON.stringify(entry)}`).join(',\n')}\n]\n`

export const isInForce = ({ until }: Revocation, now: number): boolean =>
  until === undefined || now < Date.parse(until)

/** What is in force, as it is pushed: without a word of who and why, and each but once. */
export function revokedAt(list: readonly Revocation[], now: number): Revoked {
  const [serials, identities, pods] = [new Set<string>(), new Set<string>(), new Set<string>()]
  for (const entry of list) {
    if (!isInForce(entry, now)) continue
    if (entry.kind === 'serial') serials.add(entry.serial)
    else if (entry.kind === 'identity') identities.add(entry.identity)
    else pods.add(entry.uid)
  }
  return { serials: [...serials], identities: [...identities], pods: [...pods] }
}

export const invalid = (message: string, cause?: unknown): PosternError =>
  new PosternError('PSTN_REVOCATION_INVALID', message, { cause })

/** A key that is absent or blank says nothing. @throws PosternError PSTN_REVOCATION_INVALID */
export function readJson<T>(key: string, json: string | undefined, decode: Decode<T>): T | undefined {
  if (json === undefined || json.trim() === '') return undefined
  try {
    return decode(JSON.parse(json), key)
  } catch (thrown) {
    const { message } = asPosternError(thrown, 'PSTN_REVOCATION_INVALID')
    throw invalid(thrown instanceof SyntaxError ? `${key}: ${message}` : message, thrown)
  }
}
