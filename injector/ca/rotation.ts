// The rotation of the root as a state machine without effects: from what the Secret holds and what is known of the mesh to
// the next step, or to what is waited for. Each step is one write of the Secret, so that a leader that dies between two
// of them has left either all of a step or nothing, and the next leader goes on from there.
//
//   idle ─ rotate ─► publishing ─ every sidecar has the next root ─► switched ─ the last old leaf has expired ─► idle
//
// Nothing is signed by a root before everybody trusts it, and nothing loses its trust while a certificate under it lives.
import {
  type CaRecord,
  type FormerRoot,
  type Holder,
  MOST_FORMER,
  NO_RECORD,
  type Rotation,
  type SkippedPod,
} from '../../shared/ca/record.ts'
import type { FormerRoots } from '../../shared/former-roots.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { BACKDATE_SECONDS, type CaMaterial, type KeyedCa } from './authority.ts'

/** What the mesh looks like, as far as the machine asks. */
export type MeshFacts = {
  /** Milliseconds since the epoch, as all times here. */
  readonly now: number
  /** Why the next root must not sign yet, a line each: pods, replicas, objects that lack it. */
  readonly obstacles: readonly string[]
  /** Of the certificates that sidecars have presented, the one that expires last. */
  readonly last?: Holder
  /** The pod that an old root is kept for is gone, revoked or skipped. */
  readonly released?: boolean
  /** The longest that the signer lets a certificate live. */
  readonly longestLeafMs: number
  /** Absent: SETTLE_MS. Longer while partners fetch our bundle, at intervals of their own. */
  readonly settleMs?: number
  /** Our clock less the API server's; absent while it is not known. */
  readonly skewMs?: number
}

export type Step =
  | { readonly kind: 'rest' }
  | { readonly kind: 'wait'; readonly for: readonly string[]; readonly until?: number }
  | { readonly kind: 'switch' }
  /** Says when the old root may go, and on whose account. */
  | ({ readonly kind: 'schedule' } & Schedule)
  | { readonly kind: 'drop' }

export type Schedule = { readonly drop: number; readonly seen: number; readonly heldBy?: Holder }

/** A new root is published at least this long: whoever polls (other replicas, kubelets) must have had a chance. */
export const SETTLE_MS = 60_000
/** Clocks may be this far apart. */
const SKEW_MS = BACKDATE_SECONDS * 1000

export const recordOf = ({ record }: CaMaterial): CaRecord => record ?? NO_RECORD
export const fingerprintOf = (pem: string): string => parseCertificate(pem).fingerprint256

export function nextStep(material: CaMaterial, facts: MeshFacts): Step {
  const { phase, rotation } = recordOf(material)
  if (!rotation || phase === 'idle') return { kind: 'rest' }
  const isPublishing = phase === 'publishing'
  const obstacles = [...(isPublishing ? facts.obstacles : []), ...doubts(facts)]
  if (obstacles.length > 0) return { kind: 'wait', for: obstacles }
  return isPublishing ? afterPublishing(rotation, facts) : afterSwitch(rotation, facts)
}

/** A clock that was set wrong would drop a root while certificates under it are in use. */
function doubts({ skewMs = 0 }: MeshFacts): readonly string[] {
  if (Math.abs(skewMs) <= SKEW_MS) return []
  const seconds = Math.round(Math.abs(skewMs) / 1000)
  const how = `${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} the API server’s`
  return [`the leader’s clock is ${how}: one of them is wrong`]
}

function afterPublishing({ began }: Rotation, { now, settleMs = SETTLE_MS }: MeshFacts): Step {
  const settled = Date.parse(began) + settleMs
  if (now >= settled) return { kind: 'switch' }
  const why = `the next root is published until ${iso(settled)} at least, before it signs`
  return { kind: 'wait', for: [why], until: settled }
}

function afterSwitch(rotation: Rotation, facts: MeshFacts): Step {
  if (rotation.drop === undefined || facts.released)
    return { kind: 'schedule', ...scheduleOf(rotation, facts) }
  const drop = Date.parse(rotation.drop)
  if (facts.now >= drop) return { kind: 'drop' }
  const why = `the last certificate under the old root expires before ${iso(drop)}`
  return { kind: 'wait', for: [`${why}${holding(rotation)}`], until: drop }
}

/**
 * No leaf outlives its issuer, and none that was issued before now the longest life; leaves in use may be of a longer one.
 * Reckoned from when the switch is seen, not from when it was decided: until its write came, the old root signed.
 */
function scheduleOf(rotation: Rotation, { now, last, longestLeafMs }: MeshFacts): Schedule {
  const seen = rotation.seen ? Date.parse(rotation.seen) : now
  const longest = seen + longestLeafMs
  const heldBy = last && Date.parse(last.notAfter) > longest ? last : undefined
  const ends = Date.parse(rotation.issuerEnds ?? '')
  const lastLeaf = heldBy ? Date.parse(heldBy.notAfter) : longest
  // Whose clock is behind by more than half of a short life could not have renewed in time anyway.
  const drop = (Number.isNaN(ends) ? lastLeaf : Math.min(lastLeaf, ends)) + Math.min(SKEW_MS, longestLeafMs)
  return { drop, seen, ...(heldBy && { heldBy }) }
}

const holding = ({ heldBy }: Rotation): string =>
  heldBy
    ? `, on account of pod ${heldBy.pod}, whose own is valid until ${heldBy.notAfter}: skip or revoke it to wait no longer`
    : ''

export type Asking = { readonly by: string; readonly now: number }

export const begin = (
  material: CaMaterial,
  next: KeyedCa,
  skipped: readonly SkippedPod[],
  { by, now }: Asking,
): CaMaterial => ({
  ...material,
  next,
  record: { ...recordOf(material), phase: 'publishing', rotation: { by, began: iso(now), skipped } },
})

export function skip(material: CaMaterial, pods: readonly SkippedPod[]): CaMaterial {
  const record = recordOf(material)
  const { rotation } = record
  if (!rotation) return material
  const known = rotation.skipped.filter(
    former => !pods.some(({ pod, uid }) => former.pod === pod && former.uid === uid),
  )
  return { ...material, record: { ...record, rotation: { ...rotation, skipped: [...known, ...pods] } } }
}

/** @param issuer under the next root */
export function switchRoots(material: CaMaterial, issuer: KeyedCa, now: number): CaMaterial {
  const { next, root, retired = [] } = material
  const record = recordOf(material)
  const { rotation } = record
  if (!next || !rotation) return material
  const { notAfter } = parseCertificate(material.issuer.certificate)
  const switched: Rotation = { ...rotation, switched: iso(now), issuerEnds: notAfter.toISOString() }
  return {
    root: next,
    issuer,
    retired: [root.certificate, ...retired],
    record: { ...record, phase: 'switched', rotation: switched },
  }
}

export function schedule(material: CaMaterial, { drop, seen, heldBy }: Schedule): CaMaterial {
  const record = recordOf(material)
  if (!record.rotation) return material
  const { heldBy: _, ...rotation } = record.rotation
  const scheduled = { ...rotation, drop: iso(drop), seen: iso(seen), ...(heldBy && { heldBy }) }
  return { ...material, record: { ...record, rotation: scheduled } }
}

/** The end of a rotation. */
export function dropRetired(material: CaMaterial, now: number): CaMaterial {
  const { root, issuer, retired = [] } = material
  const record = recordOf(material)
  const by = record.rotation?.by ?? 'the injector'
  return { root, issuer, record: ended(record, retired.map(gone('retired', { by, now }))) }
}

/** Of those that were replaced in good order, what they vouched for had expired before they went; all others are not to come back. */
export function formerRoots(material: CaMaterial): FormerRoots {
  const { former } = recordOf(material)
  const { retired = [], revoked = [] } = Object.groupBy(former, ({ end }) =>
    end === 'retired' ? 'retired' : 'revoked',
  )
  const fingerprints = (roots: readonly FormerRoot[]) => roots.map(({ fingerprint }) => fingerprint)
  return { retired: fingerprints(retired), revoked: fingerprints(revoked) }
}

/** What the revocation of a root does, and what has to be made for it. */
export type Revocation =
  | { readonly kind: 'unknown'; readonly says: string }
  /** A root that signs nothing: the rotation that it is of ends, or goes on with the others. */
  | { readonly kind: 'retired' | 'next' }
  /** It went in good order, and connections that it vouched for may still live. */
  | { readonly kind: 'former' }
  /** The root that signs: the next one, or a new one where there is none, takes its place at once. */
  | { readonly kind: 'present' }

export function revocationOf(material: CaMaterial, fingerprint: string): Revocation {
  const { root, next, retired = [] } = material
  const is = (pem: string) => fingerprintOf(pem) === fingerprint
  if (is(root.certificate)) return { kind: 'present' }
  if (next && is(next.certificate)) return { kind: 'next' }
  if (retired.some(is)) return { kind: 'retired' }
  const former = recordOf(material).former.find(root => root.fingerprint === fingerprint)
  if (former?.end === 'retired') return { kind: 'former' }
  const why = former
    ? `it has not been trusted since ${former.at} (${former.end})`
    : 'no root has this fingerprint'
  return { kind: 'unknown', says: why }
}

/** Of a root that signs nothing. */
export function withoutRoot(material: CaMaterial, fingerprint: string, asking: Asking): CaMaterial {
  const { root, issuer, next, retired = [] } = material
  const record = recordOf(material)
  const others = retired.filter(pem => fingerprintOf(pem) !== fingerprint)
  const revoked = retired.filter(pem => fingerprintOf(pem) === fingerprint).map(gone('revoked', asking))
  if (next && fingerprintOf(next.certificate) === fingerprint)
    return { root, issuer, record: ended(record, [gone('withdrawn', asking)(next.certificate)]) }
  if (others.length === 0) return { root, issuer, record: ended(record, revoked) }
  return { ...material, retired: others, record: { ...record, former: remembered(record, revoked) } }
}

/** One that went in good order turns out to have been in somebody else's hands. */
export function disgrace(material: CaMaterial, fingerprint: string, { by, now }: Asking): CaMaterial {
  const record = recordOf(material)
  const former = record.former.map(root =>
    root.fingerprint === fingerprint ? { ...root, end: 'revoked' as const, by, at: iso(now) } : root,
  )
  return { ...material, record: { ...record, former } }
}

/** The root that signs is trusted no more. @param root takes its place, @param issuer is under it. */
export function replaceRoot(
  material: CaMaterial,
  { root, issuer }: Pick<CaMaterial, 'root' | 'issuer'>,
  asking: Asking,
): CaMaterial {
  const { retired = [] } = material
  const record = recordOf(material)
  const revoked = [gone('revoked', asking)(material.root.certificate)]
  if (retired.length === 0) return { root, issuer, record: ended(record, revoked) }
  return { root, issuer, retired, record: { ...record, former: remembered(record, revoked) } }
}

const gone =
  (end: FormerRoot['end'], { by, now }: Asking) =>
  (pem: string): FormerRoot => ({ fingerprint: fingerprintOf(pem), end, by, at: iso(now) })

const remembered = ({ former }: CaRecord, more: readonly FormerRoot[]): readonly FormerRoot[] =>
  [...more, ...former].slice(0, MOST_FORMER)

const ended = (record: CaRecord, more: readonly FormerRoot[]): CaRecord => ({
  phase: 'idle',
  former: remembered(record, more),
  answers: record.answers,
})

const iso = (ms: number): string => new Date(ms).toISOString()
