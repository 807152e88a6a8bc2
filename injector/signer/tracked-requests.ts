// The requests that one run of the signer knows, by name, and which of them it has answered: a watch event from
// before the answer must not make it sign again.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { isAnswered } from './request.ts'

type Request = V1CertificateSigningRequest

export type Tracked = {
  readonly object: Request
  /** When this run first saw it answered, by the monotonic clock. */
  readonly answeredAt: number | undefined
}

export class TrackedRequests {
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #byName = new Map<string, Tracked>()
  /** Uids. */
  readonly #answered = new Set<string>()

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock
  }

  /** The request of this name, if it still waits for an answer. */
  open(name: string): Request | undefined {
    const object = this.#byName.get(name)?.object
    return object && !this.#answered.has(object.metadata?.uid ?? '') ? object : undefined
  }

  answered({ metadata }: Request): void {
    if (metadata?.uid) this.#answered.add(metadata.uid)
  }

  learn(object: Request): void {
    const name = object.metadata?.name ?? ''
    const known = this.#byName.get(name)
    const before = known?.object.metadata?.uid === object.metadata?.uid ? known?.answeredAt : undefined
    const answeredAt = isAnswered(object) ? (before ?? this.#clock.monotonic()) : undefined
    this.#byName.set(name, { object, answeredAt })
  }

  /**
   * Everything there is: what is not in the list is forgotten. What we have answered and is listed without an answer is open
   * again: either the list is older, which a conflict will show, or etcd was put back to an older state.
   */
  replace(requests: readonly Request[]): void {
    const uids = new Set(requests.map(({ metadata }) => metadata?.uid))
    for (const uid of this.#answered) if (!uids.has(uid)) this.#answered.delete(uid)
    const names = new Set(requests.map(({ metadata }) => metadata?.name ?? ''))
    for (const name of this.#byName.keys()) if (!names.has(name)) this.#byName.delete(name)
    for (const request of requests) {
      if (!isAnswered(request)) this.#answered.delete(request.metadata?.uid ?? '')
      this.learn(request)
    }
  }

  forget({ metadata }: Request): void {
    this.#byName.delete(metadata?.name ?? '')
    this.#answered.delete(metadata?.uid ?? '')
  }

  filter(test: (request: Tracked) => boolean): Request[] {
    return [...this.#byName.values()].filter(test).map(({ object }) => object)
  }
}
