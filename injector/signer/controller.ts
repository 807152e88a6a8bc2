// The shell around approver and signer: watches requests to our signer, fetches what the pure parts ask for, writes
// their answers. Runs on the leader alone; what another leader did meanwhile shows as a conflict and is read anew.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { Authority } from '../ca/authority.ts'
import { signPodCertificates } from '../podcertificates/controller.ts'
import { type ApproverSettings, decide, podOf, type Verdict } from './approve.ts'
import { isSpent, podUidOf, sweepMs } from './cleanup.ts'
import type { SignerObserver } from './metrics.ts'
import { addCondition, deleteRequest, getPod, setCertificate } from './objects.ts'
import { isOurs, rulesFor } from './outside.ts'
import { ifBound, isAnswered } from './request.ts'
import { workRequests } from './request-loop.ts'
import type { ServingSettings } from './serving.ts'
import { signServing } from './serving-controller.ts'
import { leafFor, signable } from './sign.ts'
import { type Tracked, TrackedRequests } from './tracked-requests.ts'

export type SignerSettings = ApproverSettings &
  ServingSettings & {
    readonly clusterDomain: string
    readonly maxLeafLifetimeSeconds: number
    /** How long answered requests stay readable before their names are freed. */
    readonly cleanupAfterMs: number
  }

export type SignerContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
  readonly authority: Live<Authority>
  readonly settings: SignerSettings
  readonly observer: SignerObserver
  /** Undefined while it is not known who is revoked: nothing is decided. */
  readonly revoked: Live<RevocationCheck | undefined>
  /** Names of the Services that select the pod. */
  readonly servicesOf: (pod: V1Pod) => readonly string[]
}

export type SignerController = {
  /** Works until `signal` aborts (leadership lost). May be called again afterwards. */
  run(signal: AbortSignal): Promise<void>
  /** Frees the names of a pod that is gone. Nothing happens on a replica that does not lead. */
  podDeleted(uid: string): void
}

export function createSigner(context: SignerContext): SignerController {
  const { signerName } = context.settings
  let freePod: (uid: string) => void = () => undefined
  const run = async (signal: AbortSignal): Promise<void> => {
    const tracked = new TrackedRequests(context.clock)
    freePod = uid => void free(context, tracked, ({ object }) => podUidOf(object) === uid, signal)
    try {
      await Promise.all([
        workRequests(context, { signerName, tracked, answer: one => answer(context, one, signal) }, signal),
        cleanUp(context, tracked, signal),
        signServing(context, signal),
        ...(isOurs(signerName)
          ? [signPodCertificates({ ...context, podCertificate: context.observer.podCertificate }, signal)]
          : []),
      ])
    } finally {
      freePod = () => undefined
    }
  }
  return { run, podDeleted: uid => freePod(uid) }
}

async function cleanUp(context: SignerContext, tracked: TrackedRequests, signal: AbortSignal): Promise<void> {
  const { clock, settings } = context
  const { cleanupAfterMs } = settings
  while (!signal.aborted) {
    await free(context, tracked, request => isSpent(request, clock.monotonic(), cleanupAfterMs), signal)
    await clock.sleep(sweepMs(cleanupAfterMs), signal).catch(() => undefined)
  }
}

async function free(
  { kube, log }: SignerContext,
  tracked: TrackedRequests,
  spent: (request: Tracked) => boolean,
  signal: AbortSignal,
): Promise<void> {
  for (const request of tracked.filter(spent)) {
    await deleteRequest(kube, request, signal).catch(error => {
      if (!signal.aborted) log.warn(failure(error, 'PSTN_API_UNAVAILABLE'), 'certificate request not deleted')
    })
  }
}

/** Decides and signs one request as far as it goes now; true once nothing is left to do with it. */
async function answer(
  context: SignerContext,
  object: V1CertificateSigningRequest,
  signal: AbortSignal,
): Promise<boolean> {
  const { kube, clock, settings } = context
  const revoked = known(context)
  const at = podOf(object)
  const pod = at && needsPod(object) ? await getPod(kube, at, signal) : undefined
  const verdict = decide(object, pod, { ...settings, revoked }, clock.now(), rulesFor(settings))
  switch (verdict.kind) {
    case 'deny':
      await deny(context, object, verdict, signal)
      return true
    case 'ignore':
      return sign(context, object, pod, signal)
    case 'approve': {
      const message = `identity ${verdict.identity}`
      const condition = { type: 'Approved', reason: 'PosternApproved', message } as const
      const approved = await addCondition(kube, object, condition, signal)
      context.observer.approved()
      return sign(context, approved, pod, signal)
    }
  }
}

/** Whoever has been answered costs no further call. */
const needsPod = ({ status }: V1CertificateSigningRequest): boolean =>
  !status?.certificate && !status?.conditions?.some(({ type }) => type === 'Denied' || type === 'Failed')

function known({ revoked }: SignerContext): RevocationCheck {
  const check = revoked.get()
  if (check) return check
  throw new PosternError('PSTN_REVOCATION_INVALID', 'it is not known who is revoked: nothing is signed')
}

async function deny(
  { kube, log, observer }: SignerContext,
  object: V1CertificateSigningRequest,
  { rule, reason }: Extract<Verdict, { kind: 'deny' }>,
  signal: AbortSignal,
): Promise<void> {
  const message = `PSTN_CSR_DENIED ${rule}: ${reason}`
  await addCondition(kube, object, { type: 'Denied', reason: 'PosternDenied', message }, signal)
  observer.denied(rule)
  const { username } = object.spec
  log.warn(
    { code: 'PSTN_CSR_DENIED', request: object.metadata?.name, username, rule, reason },
    'certificate request denied',
  )
}

async function sign(
  context: SignerContext,
  object: V1CertificateSigningRequest,
  pod: V1Pod | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const { kube, clock, log, authority, settings, observer, servicesOf } = context
  if (!isOurs(settings.signerName)) return isAnswered(object)
  const decision = signable(object, settings.trustDomain, known(context))
  const request = object.metadata?.name
  switch (decision.kind) {
    case 'wait':
      return false
    case 'fail': {
      const message = `PSTN_CSR_FAILED ${decision.reason}`
      await addCondition(kube, object, { type: 'Failed', reason: 'PosternFailed', message }, signal)
      observer.failed()
      log.warn({ code: 'PSTN_CSR_FAILED', request, reason: decision.reason }, 'certificate request failed')
      return true
    }
    case 'sign': {
      const { identity, publicKey } = decision
      const { clusterDomain, maxLeafLifetimeSeconds } = settings
      const bound = ifBound(object, pod)
      const serviceNames = bound ? servicesOf(bound) : []
      const leaf = leafFor({
        object,
        identity,
        publicKey,
        serviceNames,
        clusterDomain,
        maxLeafLifetimeSeconds,
        now: clock.now(),
      })
      const { chain, serial, notAfter } = await authority.get().issue(leaf)
      await setCertificate(kube, object, chain, signal)
      observer.issued(clock.now() - createdAt(object, clock.now()))
      log.info({ request, identity, pod: leaf.commonName, serial, notAfter }, 'certificate issued')
      return true
    }
  }
}

/** On the wire it is text, whatever the model says. */
const createdAt = ({ metadata }: V1CertificateSigningRequest, now: number): number =>
  new Date(metadata?.creationTimestamp ?? now).getTime()
