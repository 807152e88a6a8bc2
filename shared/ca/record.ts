// How far a rotation of the root has come, and what became of those before: kept in the CA's Secret beside the keys, where
// one write changes both, and shown in the ConfigMap that anybody may read. Keys of a newer version are left alone.
import { type Decode, extensible, listOf, oneOf, optional, text } from '../decode.ts'
import { fingerprintText, nameText, podText, timeText } from './texts.ts'

/**
 * `publishing`: the next root is published, and every sidecar has to have it before it signs anything. `switched`: it
 * signs; the one before is still trusted until the last certificate under it has expired.
 */
export const PHASES = ['idle', 'publishing', 'switched'] as const
export type Phase = (typeof PHASES)[number]

/** A rotation that runs. Times are RFC 3339. */
export type Rotation = {
  readonly by: string
  readonly began: string
  /** Pods that are not waited for. */
  readonly skipped: readonly SkippedPod[]
  /** From `switched` on: when that was, and when the old issuer ends, which no certificate outlives. */
  readonly switched?: string
  readonly issuerEnds?: string
  /** When the old root is dropped: reckoned once the switch is seen to be done (`seen`), since its write may have come late. */
  readonly drop?: string
  readonly seen?: string
  /** Whose certificate outlives all that the signer gives now, and so sets `drop`. */
  readonly heldBy?: Holder
}

/** A pod with the certificate that it has presented to the injector: what it only says of itself sets no date. */
export type Holder = {
  readonly pod: string
  readonly uid: string
  readonly serial: string
  readonly notAfter: string
}

/** `pod` is `<namespace>/<name>`, or `<namespace>/*` with the uid `*`: those that are yet to come are not waited for either. */
export type SkippedPod = {
  readonly pod: string
  readonly uid: string
  readonly by: string
  readonly at: string
}

/** A root that is trusted no more; how a running injector knows that the present one took its place in good order. */
export type FormerRoot = {
  readonly fingerprint: string
  /** `retired`: replaced, its certificates had expired. `withdrawn`: it never signed anything. */
  readonly end: 'retired' | 'revoked' | 'withdrawn'
  readonly by: string
  readonly at: string
}

/** To a request. */
export type CaAnswer = {
  readonly id: string
  readonly by: string
  readonly at: string
  readonly done: 'done' | 'refused'
  readonly says: string
}

export type CaRecord = {
  readonly phase: Phase
  readonly rotation?: Rotation
  /** Newest first, as answers are. */
  readonly former: readonly FormerRoot[]
  readonly answers: readonly CaAnswer[]
}

export const NO_RECORD: CaRecord = { phase: 'idle', former: [], answers: [] }
/** What is remembered of each. */
export const MOST_FORMER = 16
export const MOST_ANSWERS = 8

const any = text(() => true, 'a string')
const times = { by: nameText, at: timeText }

const decodeRotation: Decode<Rotation> = extensible<Rotation>({
  by: nameText,
  began: timeText,
  skipped: listOf(extensible<SkippedPod>({ pod: podText, uid: nameText, ...times })),
  switched: optional(timeText),
  issuerEnds: optional(timeText),
  drop: optional(timeText),
  seen: optional(timeText),
  heldBy: optional(extensible<Holder>({ pod: podText, uid: nameText, serial: nameText, notAfter: timeText })),
})

export const recordShape = {
  phase: oneOf(PHASES),
  rotation: optional(decodeRotation),
  former: listOf(
    extensible<FormerRoot>({
      fingerprint: fingerprintText,
      end: oneOf(['retired', 'revoked', 'withdrawn']),
      ...times,
    }),
  ),
  answers: listOf(
    extensible<CaAnswer>({ id: nameText, ...times, done: oneOf(['done', 'refused']), says: any }),
  ),
}

/** @throws PosternError PSTN_CONFIG_INVALID naming the place and the reason. */
export const decodeCaRecord: Decode<CaRecord> = extensible<CaRecord>(recordShape)
