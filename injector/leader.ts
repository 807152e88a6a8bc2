// Which replica writes: a Lease, as client-go's leaderelection does it. Clocks of replicas are never compared: a lease
// is expired when *we* have not seen it change for its whole duration. The leading signal aborts at the renew deadline,
// five seconds before anybody else may take over.
import type { V1ObjectMeta } from '@kubernetes/client-node'
import type { Clock } from '../shared/clock.ts'
import { withDeadline } from '../shared/deadline.ts'
import { isKubeError, type Kube } from '../shared/kube/rest.ts'
import { failure, type Logger } from '../shared/log.ts'

/** As on the wire: the model's MicroTime is text here. */
export type Lease = {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata?: V1ObjectMeta
  readonly spec?: {
    readonly holderIdentity?: string
    readonly leaseDurationSeconds?: number
    readonly acquireTime?: string
    readonly renewTime?: string
    readonly leaseTransitions?: number
  }
}

export type LeaseTiming = {
  readonly leaseSeconds: number
  readonly renewDeadlineMs: number
  readonly retryMs: number
}

export const LEASE_TIMING: LeaseTiming = { leaseSeconds: 15, renewDeadlineMs: 10_000, retryMs: 2_000 }

/** A state of the lease and when, by our own monotonic clock, we first saw it. */
export type Observation = { readonly state: string; readonly atMs: number }

export type LeaseDecision =
  /** Ours already, or free: write it. `transition` is true when the holder changes. */
  { readonly kind: 'take'; readonly transition: boolean } | { readonly kind: 'wait'; readonly holder: string }

/** `former` survives only as long as the lease reads the same. */
export function observe(former: Observation | undefined, lease: Lease, nowMs: number): Observation {
  const { holderIdentity, renewTime, leaseTransitions } = lease.spec ?? {}
  const state = JSON.stringify([holderIdentity, renewTime, leaseTransitions])
  return former?.state === state ? former : { state, atMs: nowMs }
}

export function decideLease(lease: Lease, me: string, observed: Observation, nowMs: number): LeaseDecision {
  const { holderIdentity: holder, leaseDurationSeconds = 0 } = lease.spec ?? {}
  if (holder === me) return { kind: 'take', transition: false }
  if (!holder || nowMs >= observed.atMs + leaseDurationSeconds * 1_000) {
    return { kind: 'take', transition: true }
  }
  return { kind: 'wait', holder }
}

export type LeadOptions = {
  readonly namespace: string
  readonly name: string
  /** Unique among all processes that were ever candidates: pod name and a random suffix. */
  readonly identity: string
  /** Runs while we lead; must end soon after its signal aborts. If it ends by itself, the lease is given up. */
  readonly onLeading: (signal: AbortSignal) => Promise<void>
  readonly log: Logger
  readonly clock: Clock
  readonly random?: () => number
  readonly timing?: LeaseTiming
}

const RELEASE_TIMEOUT_MS = 2_000
const LATE = 'no answer about the lease in time'

/** Campaigns, leads, campaigns again, until the signal aborts; then releases the lease, so that another leads at once. */
export async function lead(kube: Kube, options: LeadOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, random = Math.random, timing = LEASE_TIMING, identity } = options
  const path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`
  let observed: Observation | undefined

  /** Writes the lease if it is ours to take. */
  const tryTake = async (attemptSignal: AbortSignal): Promise<boolean> => {
    const lease = await current(kube, path, options, attemptSignal)
    observed = observe(observed, lease, clock.monotonic())
    const decision = decideLease(lease, identity, observed, clock.monotonic())
    if (decision.kind === 'wait') return false
    const { leaseTransitions = 0, acquireTime } = lease.spec ?? {}
    const now = microTime(clock.now())
    const spec = {
      holderIdentity: identity,
      leaseDurationSeconds: timing.leaseSeconds,
      acquireTime: decision.transition ? now : (acquireTime ?? now),
      renewTime: now,
      leaseTransitions: leaseTransitions + (decision.transition ? 1 : 0),
    }
    await write(kube, path, lease, spec, attemptSignal)
    return true
  }

  /** Renews until the deadline passes, another holds the lease, or `until` aborts. */
  const keep = async (takenAt: number, until: AbortSignal): Promise<void> => {
    let renewedAt = takenAt
    while (!until.aborted) {
      const deadline = renewedAt + timing.renewDeadlineMs
      await clock.sleep(Math.min(timing.retryMs, deadline - clock.monotonic()), until).catch(() => undefined)
      const left = deadline - clock.monotonic()
      if (until.aborted || left <= 0) return
      const started = clock.monotonic()
      try {
        const held = await withDeadline({ clock, ms: left, signal: until, late: LATE }, tryTake)
        if (!held) return
        renewedAt = started
      } catch (thrown) {
        log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'lease not renewed')
      }
    }
  }

  const serve = async (takenAt: number): Promise<void> => {
    const leading = new AbortController()
    log.info({ identity }, 'leading')
    const tasks = options
      .onLeading(leading.signal)
      .catch(thrown => log.error(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'leader task failed'))
      .finally(() => leading.abort())
    await keep(takenAt, AbortSignal.any([signal, leading.signal]))
    leading.abort()
    log.info({ identity }, 'not leading any more')
    await tasks
    await release(kube, path, options).catch(thrown =>
      log.debug(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'lease not released'),
    )
  }

  while (!signal.aborted) {
    const started = clock.monotonic()
    try {
      const attempt = { clock, ms: timing.renewDeadlineMs, signal, late: LATE }
      if (await withDeadline(attempt, tryTake)) await serve(started)
    } catch (thrown) {
      if (signal.aborted) return
      // A conflict is a candidate that was faster: nothing to report.
      if (!isKubeError(thrown, 409))
        log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'no answer about the lease')
    }
    await clock.sleep(timing.retryMs * (1 + random() * 0.2), signal).catch(() => undefined)
  }
}

type Named = Pick<LeadOptions, 'namespace' | 'name' | 'identity'>

/** The lease as stored, or the one that we are about to create. */
async function current(
  kube: Kube,
  path: string,
  { namespace, name }: Named,
  signal: AbortSignal,
): Promise<Lease> {
  try {
    return await kube.get<Lease>(`${path}/${name}`, signal)
  } catch (thrown) {
    if (!isKubeError(thrown, 404)) throw thrown
    return { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { namespace, name } }
  }
}

/** Compare-and-swap: the stored lease's resourceVersion travels along. */
async function write(kube: Kube, path: string, lease: Lease, spec: Lease['spec'], signal: AbortSignal) {
  const body = { ...lease, spec: { ...lease.spec, ...spec } }
  if (lease.metadata?.resourceVersion === undefined) await kube.create<Lease>(path, body, signal)
  else await kube.replace<Lease>(`${path}/${lease.metadata.name}`, body, signal)
}

async function release(kube: Kube, path: string, options: LeadOptions): Promise<void> {
  const signal = AbortSignal.timeout(RELEASE_TIMEOUT_MS)
  const lease = await current(kube, path, options, signal)
  if (lease.spec?.holderIdentity !== options.identity) return
  const now = microTime(options.clock.now())
  const { leaseTransitions = 0 } = lease.spec
  const spec = {
    holderIdentity: '',
    leaseDurationSeconds: 1,
    acquireTime: now,
    renewTime: now,
    leaseTransitions,
  }
  await write(kube, path, lease, spec, signal)
}

/** Kubernetes' MicroTime. */
const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z')
