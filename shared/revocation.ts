// Who is refused although a root still vouches for them: what the injector pushes to every sidecar, and the one question
// that all who enforce it ask of a peer. Pure; the list that operators write is revocation-list.ts.
import { type Decode, listOf, object, text } from './decode.ts'
import { PosternError } from './errors.ts'

export type Revoked = {
  /** Of single certificates, as `isSerial` has them. */
  readonly serials: readonly string[]
  /** SPIFFE IDs: every certificate that has one. */
  readonly identities: readonly string[]
  /** Uids of pods: every certificate that the built-in signer made for one, which names it in its subject. */
  readonly pods: readonly string[]
}

/** What a certificate says of its bearer; `podUid` is absent if it is of another signer. */
export type Bearer = { readonly serial: string; readonly identity: string; readonly podUid?: string }

/** Why a bearer is refused, in words; undefined if it is not. */
export type RevocationCheck = (bearer: Partial<Bearer>) => string | undefined

export const NOBODY_REVOKED: Revoked = { serials: [], identities: [], pods: [] }

const filled = text(value => value !== '', 'a string that is not empty')

/** What a certificate's serial is compared as: lower-case hex, whole bytes, none of them a leading zero; RFC 5280 has at most 20. */
export const isSerial = (value: string): boolean => /^(?!00.)([0-9a-f]{2}){1,20}$/.test(value)

/** As people and other tools write it: in capitals, with colons, `0x` or zeros before it. Undefined if it is no serial. */
export function parseSerial(written: string): string | undefined {
  const digits = written.toLowerCase().replace(/^0x/, '').replaceAll(':', '')
  if (!/^[0-9a-f]+$/.test(digits)) return undefined
  const significant = digits.replace(/^0+/, '') || '0'
  const serial = significant.length % 2 === 0 ? significant : `0${significant}`
  return isSerial(serial) ? serial : undefined
}

export const decodeRevoked: Decode<Revoked> = object<Revoked>({
  serials: listOf(text(isSerial, 'a serial: lower-case hex, whole bytes')),
  identities: listOf(filled),
  pods: listOf(filled),
})

export function revocationCheck({ serials, identities, pods }: Revoked): RevocationCheck {
  const [bySerial, byIdentity, byPod] = [new Set(serials), new Set(identities), new Set(pods)]
  return ({ serial, identity, podUid }) => {
    if (serial !== undefined && bySerial.has(serial)) return `the certificate ${serial} is revoked`
    if (identity !== undefined && byIdentity.has(identity)) return `the identity ${identity} is revoked`
    return podUid !== undefined && byPod.has(podUid) ? `the pod ${podUid} is revoked` : undefined
  }
}

/** @throws PosternError PSTN_PEER_REVOKED */
export function refuseRevoked(check: RevocationCheck, bearer: Partial<Bearer>): void {
  const reason = check(bearer)
  if (reason !== undefined) throw new PosternError('PSTN_PEER_REVOKED', reason)
}
