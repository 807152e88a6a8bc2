// What the rotation of the root has to know of the mesh, found out anew for each step: which pods lack the next root, whose
// certificate lives longest under the old one, and what publishes a root still that is trusted no more.
import type { Holder, Rotation } from '../../shared/ca/record.ts'
import type { LingeringRoot, UnconfirmedPod } from '../../shared/ca/status.ts'
import type { Clock } from '../../shared/clock.ts'
import type { ClockSkew } from '../../shared/clock-skew.ts'
import type { Gathered } from '../../shared/control/sidecar-report.ts'
import { asPosternError } from '../../shared/errors.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import type { Live } from '../../shared/live.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { Reports } from '../control/reports.ts'
import type { World } from '../directory/world.ts'
import { identityOf } from '../signer/request.ts'
import type { CaMaterial } from './authority.ts'
import { type Exempt, exemption, longestPresented, unconfirmed } from './confirmations.ts'
import { stillPublished, unpublished } from './published.ts'
import { fingerprintOf, type MeshFacts, recordOf } from './rotation.ts'
import type { CaPlace } from './store.ts'

export type FindingsContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly place: CaPlace
  readonly reports: Pick<Reports, 'gather'>
  readonly world: Pick<World, 'pods'>
  /** Undefined while it is not known who is revoked: then everybody is waited for. */
  readonly revoked: Live<RevocationCheck | undefined>
  readonly longestLeafMs: number
  /** How long a next root is published at least. Absent: as long as the machine says. */
  readonly settleMs?: () => number | undefined
  /** How far our clock is from the API server's. Absent: nobody measures it. */
  readonly skew?: Pick<ClockSkew, 'ms'>
}

/** What was found out for one step. */
export type Found = { readonly facts: MeshFacts; readonly pods: readonly UnconfirmedPod[] }

/** Asks nobody but where the machine needs it. @throws the signal's reason alone. */
export async function findOut(
  context: FindingsContext,
  material: CaMaterial,
  signal: AbortSignal,
): Promise<Found> {
  const { clock, reports, longestLeafMs } = context
  const settleMs = context.settleMs?.()
  const { phase, rotation } = recordOf(material)
  const fingerprint = material.next && fingerprintOf(material.next.certificate)
  // Before anybody is asked: a pod that starts after it was asked for reads what is published by then.
  const lacking = fingerprint ? await lacks(context, fingerprint, signal) : []
  const isExempt = exemptionFrom(context, rotation)
  const released = isReleased(context, rotation?.heldBy, isExempt)
  const schedules = phase === 'switched' && (rotation?.drop === undefined || released)
  const asks = fingerprint !== undefined || schedules
  const gathered = asks ? await reports.gather(signal) : NOBODY
  const pods = fingerprint ? unconfirmed(gathered, fingerprint, isExempt) : []
  const obstacles = [
    ...lacking,
    ...gathered.missing.map(({ replica, reason }) => `replica ${replica} does not answer: ${reason}`),
    ...(pods.length > 0 ? [`${pods.length} pods have not confirmed the next root`] : []),
  ]
  const last = longestPresented(gathered, isExempt)
  return {
    facts: {
      ...(last && { last }),
      released,
      longestLeafMs,
      obstacles,
      now: clock.now(),
      ...(settleMs && { settleMs }),
      ...(context.skew?.ms !== undefined && { skewMs: context.skew.ms }),
    },
    pods,
  }
}

function exemptionFrom(
  { place: { trustDomain }, revoked, world }: FindingsContext,
  rotation: Rotation | undefined,
): Exempt {
  return exemption(rotation?.skipped ?? [], revoked.get() ?? (() => undefined), podUid => {
    const pod = world.pods.get(podUid)
    return pod && identityOf(pod, trustDomain)
  })
}

function isReleased({ world }: FindingsContext, holder: Holder | undefined, isExempt: Exempt): boolean {
  if (!holder) return false
  const [namespace = ''] = holder.pod.split('/')
  return !world.pods.get(holder.uid)?.live || isExempt({ namespace, podUid: holder.uid }, holder.serial)
}

/** What cannot be read holds the rotation up, and says so where whoever asked looks. */
async function lacks({ kube, place }: FindingsContext, fingerprint: string, signal: AbortSignal) {
  try {
    return await unpublished(kube, place.namespace, fingerprint, signal)
  } catch (thrown) {
    return [`what is published cannot be read: ${reasonOf(thrown, signal)}`]
  }
}

/** Former roots that are published still. @throws the signal's reason alone. */
export async function lingeringRoots(
  { kube, place }: FindingsContext,
  material: CaMaterial,
  signal: AbortSignal,
): Promise<readonly LingeringRoot[]> {
  const former = recordOf(material).former.map(({ fingerprint }) => fingerprint)
  try {
    return await stillPublished(kube, place.namespace, former, signal)
  } catch (thrown) {
    const where = `what is published cannot be read: ${reasonOf(thrown, signal)}`
    return former.map(fingerprint => ({ fingerprint, where }))
  }
}

function reasonOf(thrown: unknown, signal: AbortSignal): string {
  signal.throwIfAborted()
  return asPosternError(thrown, 'PSTN_API_UNAVAILABLE').message
}

const NOBODY: Gathered = { reports: [], missing: [], unconnected: [] }
