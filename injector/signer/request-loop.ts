// Works through the requests to one signer as they come: what waits for an answer is tried until it has one, what another
// leader did meanwhile shows as a conflict and is read anew.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { watchList } from '../kube/watch.ts'
import type { SignerObserver } from './metrics.ts'
import { CSR_PATH, getRequest } from './objects.ts'
import { requesterOf } from './request.ts'
import type { TrackedRequests } from './tracked-requests.ts'
import { workQueue } from './work-queue.ts'

export type RequestLoopContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly random: () => number
  readonly observer: Pick<SignerObserver, 'retried'>
}

export type RequestLoop = {
  readonly signerName: string
  readonly tracked: TrackedRequests
  /** Goes as far as it can now; true once nothing is left to do with the request. */
  readonly answer: (request: V1CertificateSigningRequest) => Promise<boolean>
}

const CONCURRENCY = 8
const RETRY = { baseMs: 200, capMs: 30_000 }

/** Runs until aborted. */
export function workRequests(
  { kube, clock, log, random, observer }: RequestLoopContext,
  { signerName, tracked, answer }: RequestLoop,
  signal: AbortSignal,
): Promise<void> {
  const handle = async (name: string) => {
    const request = tracked.open(name)
    if (!request) return
    try {
      if (await answer(request)) tracked.answered(request)
    } catch (error) {
      if (!isKubeError(error, 409) && !isKubeError(error, 404)) throw error
      const current = await getRequest(kube, name, signal)
      if (!current) return tracked.forget(request)
      tracked.learn(current)
      throw error
    }
  }
  const onError = (name: string, error: unknown) => {
    observer.retried()
    log.warn({ request: name, ...failure(error, 'PSTN_API_UNAVAILABLE') }, 'certificate request: retrying')
  }
  // Who may make pods in one namespace can fill the queue: its own sidecars wait then, and no others.
  const turnOf = (name: string) => {
    const request = tracked.open(name)
    return (request && requesterOf(request)?.namespace) ?? ''
  }
  const turns = { turnOf, concurrency: CONCURRENCY, retry: RETRY }
  const queue = workQueue(handle, { ...turns, clock, signal, random, onError })
  const enqueue = (request: V1CertificateSigningRequest) => queue.add(request.metadata?.name ?? '')
  return watchList<V1CertificateSigningRequest>(
    kube,
    CSR_PATH,
    { fieldSelector: `spec.signerName=${signerName}` },
    {
      onList: requests => {
        tracked.replace(requests)
        requests.forEach(enqueue)
      },
      onEvent: (type, request) => {
        if (type === 'DELETED') return tracked.forget(request)
        tracked.learn(request)
        enqueue(request)
      },
    },
    { signal, log, clock },
  )
}
