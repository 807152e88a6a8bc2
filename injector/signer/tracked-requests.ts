// The requests that one run of the signer knows, by name, and which of them it has answered: a watch event from
// before the answer must not make it sign again.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'

type Request = V1CertificateSigningRequest

export class TrackedRequests {
  readonly #byName = new Map<string, Request>()
  /** Uids. */
  readonly #answered = new Set<string>()

  /** The request of this name, if it still waits for an answer. */
  open(name: string): Request | undefined {
    const request = this.#byName.get(name)
    return request && !this.#answered.has(request.metadata?.uid ?? '') ? request : undefined
  }

  answered({ metadata }: Request): void {
    if (metadata?.uid) this.#answered.add(metadata.uid)
  }

  learn(request: Request): void {
    this.#byName.set(request.metadata?.name ?? '', request)
  }

  /** Everything there is: what is not in the list is forgotten. */
  replace(requests: readonly Request[]): void {
    const uids = new Set(requests.map(({ metadata }) => metadata?.uid))
    for (const uid of this.#answered) if (!uids.has(uid)) this.#answered.delete(uid)
    this.#byName.clear()
    for (const request of requests) this.learn(request)
  }

  forget({ metadata }: Request): void {
    this.#byName.delete(metadata?.name ?? '')
    this.#answered.delete(metadata?.uid ?? '')
  }

  filter(test: (request: Request) => boolean): Request[] {
    return [...this.#byName.values()].filter(test)
  }
}
