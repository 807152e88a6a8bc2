// Drives the rotation of the root (rotation.ts) on the leader: answers requests, asks the mesh what the machine wants to
// know, writes each step, and says what is waited for where anybody can read it. What it knows is in the Secret alone,
// so that a leader may die anywhere.
import type { UnconfirmedPod } from '../../shared/ca/status.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { createIssuer, createRoot } from './authority.ts'
import { nameOf } from './confirmations.ts'
import { type FindingsContext, findOut, lingeringRoots } from './findings.ts'
import type { AuthorityKeeper } from './keeper.ts'
import { answerRequest, pendingRequests } from './requests.ts'
import {
  dropRetired,
  fingerprintOf,
  nextStep,
  recordOf,
  type Step,
  schedule,
  switchRoots,
} from './rotation.ts'
import { publishStatus, statusOf } from './status.ts'
import type { StoredCa } from './store.ts'

export type RotatorContext = FindingsContext & {
  readonly log: Logger
  readonly registry: Registry
  readonly keeper: AuthorityKeeper
}

export type Rotator = {
  /** Until aborted. Only the leader runs it, and may run it again. */
  run(signal: AbortSignal): Promise<void>
}

/** While sidecars are waited for. */
const ASK_MS = 5_000
/** While a root that is trusted no more is published: somebody waits to hear that it is gone. */
const LINGER_MS = 500
/** Somebody may have edited the status. */
const RECHECK_MS = 30_000
/** How often the log says that a rotation does not go on. */
const REMIND_MS = 10 * 60_000
const REMIND_PODS = 5

export function createRotator(context: RotatorContext): Rotator {
  const { clock, log, registry, keeper } = context
  let waitingPods = 0
  registry.gauge(
    'postern_ca_rotation_unconfirmed',
    'On the leader: pods that the rotation of the root waits for, because they have not said that they trust the next one.',
    [],
    gauge => gauge.set({}, waitingPods),
  )
  const turn = async (remind: Reminder, signal: AbortSignal): Promise<number> => {
    await answerAll(context, signal)
    const before = keeper.stored.get()
    const { facts, pods } = await findOut(context, before.material, signal)
    waitingPods = pods.length
    const step = nextStep(before.material, facts)
    if (await take(context, before, step, signal)) return 0
    const waitingFor = step.kind === 'wait' ? step.for : []
    const hasNoEnd = step.kind === 'wait' && step.until === undefined
    remind(hasNoEnd || recordOf(before.material).phase === 'publishing' ? waitingFor : [], pods)
    const lingering = await lingeringRoots(context, before.material, signal)
    const status = statusOf(before.material, { waitingFor, unconfirmed: pods, lingering })
    await publishStatus(context.kube, context.place.namespace, status, signal)
    return lingering.length > 0 ? LINGER_MS : pauseAfter(step, clock.now())
  }
  const run = async (signal: AbortSignal): Promise<void> => {
    let wake = new AbortController()
    const stop = keeper.stored.subscribe(() => wake.abort())
    const remind = reminder(context)
    try {
      while (!signal.aborted) {
        wake = new AbortController()
        const woken = wake.signal
        const pause = await turn(remind, signal).catch(thrown => {
          if (!signal.aborted) log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'root rotation: retrying')
          return ASK_MS
        })
        if (pause > 0) await clock.sleep(pause, AbortSignal.any([signal, woken])).catch(() => undefined)
      }
    } finally {
      stop()
      waitingPods = 0
    }
  }
  return { run }
}

const pauseAfter = (step: Step, now: number): number =>
  step.kind !== 'wait'
    ? RECHECK_MS
    : step.until === undefined
      ? ASK_MS
      : Math.min(Math.max(step.until - now, 0) + 1, RECHECK_MS)

/** One request after the other, each with the write that does it. */
async function answerAll(context: RotatorContext, signal: AbortSignal): Promise<void> {
  const { keeper, clock, log, place, world } = context
  for (;;) {
    const before = keeper.stored.get()
    const [pending] = pendingRequests(before.secret.metadata.annotations)
    if (!pending) return
    const now = clock.now()
    const material = await answerRequest(before.material, pending, {
      now,
      pods: new Map(
        [...world.pods.values()]
          .filter(({ live, mesh }) => live && mesh)
          .map(({ namespace, name, uid }) => [nameOf({ namespace, pod: name }), uid]),
      ),
      newRoot: () => createRoot(place.trustDomain, now),
      newIssuer: root => createIssuer(root, place.trustDomain, now),
    })
    if (!(await keeper.swap(before, material, [pending.annotation], signal))) continue
    const [answer] = recordOf(material).answers
    log.info({ request: pending.request, ...answer }, 'CA request answered')
  }
}

/** Writes the step, if it is one. True if there may be more to do at once. */
async function take(
  { keeper, clock, log, place }: RotatorContext,
  before: StoredCa,
  step: Step,
  signal: AbortSignal,
): Promise<boolean> {
  const { material } = before
  const now = clock.now()
  switch (step.kind) {
    case 'switch': {
      if (!material.next) return false
      const issuer = await createIssuer(material.next, place.trustDomain, now)
      const switched = switchRoots(material, issuer, now)
      if (await keeper.swap(before, switched, [], signal))
        log.info({ root: fingerprintOf(material.next.certificate) }, 'root rotation: the new root signs')
      return true
    }
    case 'schedule':
      await keeper.swap(before, schedule(material, step), [], signal)
      return true
    case 'drop':
      if (await keeper.swap(before, dropRetired(material, now), [], signal))
        log.info(
          { root: fingerprintOf(material.root.certificate) },
          'root rotation: done, the old root is dropped',
        )
      return true
    case 'wait':
    case 'rest':
      return false
  }
}

type Reminder = (waitingFor: readonly string[], pods: readonly UnconfirmedPod[]) => void

/** Says at first, and then now and again, what is waited for. */
function reminder({ clock, log }: RotatorContext): Reminder {
  let saidAt = Number.NEGATIVE_INFINITY
  return (waitingFor, pods) => {
    if (waitingFor.length === 0) {
      saidAt = Number.NEGATIVE_INFINITY
      return
    }
    if (clock.monotonic() - saidAt < REMIND_MS) return
    saidAt = clock.monotonic()
    log.warn({ waitingFor, pods: pods.slice(0, REMIND_PODS) }, 'root rotation: waiting')
  }
}
