// The shell that serves PodCertificateRequests to our signer, where the API server has them: watches, fetches the pod,
// asks the pure decision, writes one status. One write an answer, against the version that was read, so that a leader may
// die anywhere and two may lead for a moment: a request is answered once or stays as it was.
import type { V1Pod } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { WORKLOAD_SIGNER } from '../../shared/names.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { Authority } from '../ca/authority.ts'
import { watchList } from '../kube/watch.ts'
import { getPod } from '../signer/objects.ts'
import { workloadLeaf } from '../signer/sign.ts'
import { type WorkQueue, workQueue } from '../signer/work-queue.ts'
import { decide, MIN_LIFETIME_SECONDS, POD_CERTIFICATE_BACKDATE_SECONDS, type Verdict } from './decide.ts'
import {
  getRequest,
  type PodCertificateVersion,
  podCertificateRequests,
  podCertificateVersion,
  setStatus,
} from './objects.ts'
import { isAnswered, keyOf, type PodCertificateRequest } from './request.ts'
import { conditionOf, issuedStatus } from './status.ts'

export type PodCertificateObserver = (
  outcome: 'issued' | 'denied' | 'waiting' | 'retried',
  rule?: string,
) => void

export type PodCertificateContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
  readonly authority: Live<Authority>
  readonly settings: {
    readonly trustDomain: string
    readonly clusterDomain: string
    readonly maxLeafLifetimeSeconds: number
  }
  /** Undefined while it is not known who is revoked: nothing is decided. */
  readonly revoked: Live<RevocationCheck | undefined>
  readonly servicesOf: (pod: V1Pod) => readonly string[]
  readonly podCertificate: PodCertificateObserver
}

const LOOK_MS = 60_000
const CONCURRENCY = 8
const RETRY = { baseMs: 200, capMs: 30_000 }

/** Works until `signal` aborts (leadership lost). May be called again afterwards. Never rejects. */
export async function signPodCertificates(
  context: PodCertificateContext,
  signal: AbortSignal,
): Promise<void> {
  const { kube, clock, log } = context
  let serving: { readonly version: PodCertificateVersion | undefined; end(): Promise<void> } | undefined
  while (!signal.aborted) {
    try {
      const version = await podCertificateVersion(kube, signal)
      if (!serving || serving.version !== version) {
        await serving?.end()
        serving = serve(context, version, signal)
        log.info({ version }, version ? 'PodCertificateRequests are served' : NOT_THERE)
      }
    } catch (thrown) {
      // What is served already goes on: it sees for itself what the API server answers.
      if (!signal.aborted)
        log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'PodCertificateRequests not looked for')
    }
    await clock.sleep(LOOK_MS, signal).catch(() => undefined)
  }
  await serving?.end()
}

const NOT_THERE = 'the API server has no PodCertificateRequests: none are served'

function serve(
  context: PodCertificateContext,
  version: PodCertificateVersion | undefined,
  signal: AbortSignal,
) {
  const stop = new AbortController()
  const running = version && answerAll(context, version, AbortSignal.any([signal, stop.signal]))
  return {
    version,
    end: async () => {
      stop.abort()
      await running
    },
  }
}

type Open = {
  /** Not answered as far as is known, by key. */
  readonly requests: Map<string, PodCertificateRequest>
  /** Uids of those whose waiting has been told. */
  readonly told: Set<string>
}

async function answerAll(
  context: PodCertificateContext,
  version: PodCertificateVersion,
  signal: AbortSignal,
): Promise<void> {
  const { kube, clock, log, random, revoked, podCertificate } = context
  const open: Open = { requests: new Map(), told: new Set() }
  const handle = async (key: string) => {
    const request = open.requests.get(key)
    if (!request) return
    try {
      if (await answer(context, { version, key, request, told: open.told }, signal)) forget(open, key)
    } catch (thrown) {
      if (![404, 409, 422].some(status => isKubeError(thrown, status))) throw thrown
      const current = await getRequest(kube, version, key, signal)
      learn(open, key, current)
      if (open.requests.has(key)) throw thrown
    }
  }
  const onError = (request: string, error: unknown) => {
    podCertificate('retried')
    log.warn({ request, ...failure(error, 'PSTN_API_UNAVAILABLE') }, 'pod certificate request: retrying')
  }
  const turnOf = (key: string) => open.requests.get(key)?.metadata?.namespace ?? ''
  const turns = { turnOf, concurrency: CONCURRENCY, retry: RETRY }
  const queue = workQueue(handle, { ...turns, clock, signal, random, onError })
  const unsubscribe = revoked.subscribe(() => addAll(open, queue))
  try {
    await watchList<PodCertificateRequest>(
      kube,
      podCertificateRequests(version),
      { fieldSelector: `spec.signerName=${WORKLOAD_SIGNER}` },
      {
        onList: requests => {
          open.requests.clear()
          for (const request of requests) learn(open, keyOf(request), request)
          addAll(open, queue)
        },
        onEvent: (type, request) => {
          learn(open, keyOf(request), type === 'DELETED' ? undefined : request)
          queue.add(keyOf(request))
        },
      },
      { signal, log, clock },
    )
  } finally {
    unsubscribe()
  }
}

function addAll({ requests }: Open, queue: WorkQueue): void {
  for (const key of requests.keys()) queue.add(key)
}

function learn(open: Open, key: string, request: PodCertificateRequest | undefined): void {
  if (!request || isAnswered(request)) forget(open, key)
  else open.requests.set(key, request)
}

function forget({ requests, told }: Open, key: string): void {
  told.delete(requests.get(key)?.metadata?.uid ?? '')
  requests.delete(key)
}

type Task = {
  readonly version: PodCertificateVersion
  readonly key: string
  readonly request: PodCertificateRequest
  readonly told: Set<string>
}

/** Goes as far as it can now; true once nothing is left to do with the request. */
async function answer(context: PodCertificateContext, task: Task, signal: AbortSignal): Promise<boolean> {
  const { kube, clock, log, settings, podCertificate } = context
  const { version, key, request, told } = task
  const revoked = context.revoked.get()
  if (!revoked)
    throw new PosternError('PSTN_REVOCATION_INVALID', 'it is not known who is revoked: nothing is signed')
  const { metadata, spec } = request
  const pod = await getPod(kube, { namespace: metadata?.namespace ?? '', name: spec.podName }, signal)
  const verdict = decide(request, pod, { ...settings, revoked, now: clock.now() })
  switch (verdict.kind) {
    case 'ignore':
      return true
    case 'issue':
      await issue(context, task, verdict, pod, signal)
      return true
    case 'wait': {
      const { rule, message } = verdict
      const uid = metadata?.uid ?? ''
      if (told.has(uid)) return false
      told.add(uid)
      podCertificate('waiting', rule)
      log.warn(
        { code: 'PSTN_CSR_DENIED', request: key, pod: spec.podName, rule, reason: message },
        'pod certificate request waits',
      )
      return false
    }
    case 'deny': {
      const { rule, reason, message } = verdict
      const condition = conditionOf('Denied', reason, `PSTN_CSR_DENIED ${rule}: ${message}`, clock.now())
      await setStatus(kube, version, { key, request, status: { conditions: [condition] } }, signal)
      podCertificate('denied', rule)
      log.warn(
        { code: 'PSTN_CSR_DENIED', request: key, pod: spec.podName, rule, reason: message },
        'pod certificate request denied',
      )
      return true
    }
  }
}

async function issue(
  context: PodCertificateContext,
  { version, key, request }: Task,
  { identity, publicKey, lifetimeSeconds }: Extract<Verdict, { kind: 'issue' }>,
  pod: V1Pod | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { kube, clock, log, random, authority, settings, servicesOf, podCertificate } = context
  const { podName, podUID } = request.spec
  const now = clock.now()
  const backdateSeconds = POD_CERTIFICATE_BACKDATE_SECONDS
  const leaf = await authority.get().issue({
    ...workloadLeaf({
      pod: { name: podName, uid: podUID },
      identity,
      publicKey,
      serviceNames: pod ? servicesOf(pod) : [],
      clusterDomain: settings.clusterDomain,
      lifetimeSeconds: lifetimeSeconds - backdateSeconds,
      now,
    }),
    backdateSeconds,
  })
  if (leaf.notAfter.getTime() - leaf.notBefore.getTime() < MIN_LIFETIME_SECONDS * 1000)
    throw new PosternError(
      'PSTN_CSR_FAILED',
      'the issuer expires within the hour; the leader has not renewed it',
    )
  const status = issuedStatus(leaf, identity, now, random())
  await setStatus(kube, version, { key, request, status }, signal)
  podCertificate('issued')
  const { serial, notAfter } = leaf
  log.info({ request: key, identity, pod: podName, serial, notAfter }, 'pod certificate issued')
}
