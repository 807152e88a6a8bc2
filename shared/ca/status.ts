// The CA as anybody may see it who may read ConfigMaps in the injector's namespace: certificates by their fingerprints,
// what a rotation of the root waits for, and for which pods. The leader writes it, `postern ca status` reads it.
import { type Decode, extensible, integer, listOf, optional, text } from '../decode.ts'
import { type CaRecord, recordShape } from './record.ts'
import { fingerprintText, nameText, timeText } from './texts.ts'

/** The key of ConfigMap `postern-ca` that holds a CaStatus as JSON; `phase` and `waiting-for` beside it are for people. */
export const CA_STATUS_KEY = 'status.json'

export type CaCertificate = { readonly fingerprint: string; readonly notAfter: string }

export type UnconfirmedPod = { readonly pod: string; readonly reason: string }

export type CaStatus = CaRecord & {
  readonly root: CaCertificate
  readonly issuer: CaCertificate
  /** Published, and not in use yet. */
  readonly next?: CaCertificate
  /** Still trusted. */
  readonly retired: readonly CaCertificate[]
  /** Why the rotation does not go on, a line each. */
  readonly waitingFor: readonly string[]
  /** Pods that have not said that they trust the next root; `pods` are the first of `count`. */
  readonly unconfirmed: { readonly count: number; readonly pods: readonly UnconfirmedPod[] }
  /** Former roots that something publishes still, as it was read back: they are trusted by whoever believes it. */
  readonly lingering?: readonly LingeringRoot[]
}

/** `where` is the object that holds it, or why that is not known. */
export type LingeringRoot = { readonly fingerprint: string; readonly where: string }

const certificate = extensible<CaCertificate>({ fingerprint: fingerprintText, notAfter: timeText })
const any = text(() => true, 'a string')

/** @throws PosternError PSTN_CONFIG_INVALID naming the place and the reason. */
export const decodeCaStatus: Decode<CaStatus> = extensible<CaStatus>({
  ...recordShape,
  root: certificate,
  issuer: certificate,
  next: optional(certificate),
  retired: listOf(certificate),
  waitingFor: listOf(any),
  unconfirmed: extensible<CaStatus['unconfirmed']>({
    count: integer(0, Number.MAX_SAFE_INTEGER),
    pods: listOf(extensible<UnconfirmedPod>({ pod: nameText, reason: any })),
  }),
  lingering: optional(listOf(extensible<LingeringRoot>({ fingerprint: fingerprintText, where: any }))),
})
