// A signer that is not ours, with the rights of an administrator and the manners that a test gives it, for each pod apart.
import { setTimeout as delay } from 'node:timers/promises'
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import { podUidOf } from '../../../injector/signer/cleanup.ts'
import { addCondition, CSR_PATH, setCertificate } from '../../../injector/signer/objects.ts'
import { awaitsSignature, readRequest, requestBytes } from '../../../injector/signer/request.ts'
import { type Kube, KubeError } from '../../../shared/kube/rest.ts'

/** What it does with one request, step after step. */
export type Act =
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'issue'; readonly pem: string }
  | { readonly kind: 'fail' | 'deny' | 'approve' }

/** `spki` is the key of the request. */
export type Manner = (spki: Buffer) => Promise<readonly Act[]> | readonly Act[]

export type FaultySigner = AsyncDisposable & {
  /** From now on, and with what it has not answered. */
  behave(podUid: string, manner: Manner): void
  /** What the API server did not let it do for this pod. */
  refusals(podUid: string): readonly string[]
}

const POLL_MS = 50

/** Acts on approved requests; of a pod that is `unapproved` it is the approver, too. */
export function startFaultySigner(
  kube: Kube,
  signerName: string,
  honest: Manner,
  unapproved: (podUid: string) => boolean,
): FaultySigner {
  const stop = new AbortController()
  const manners = new Map<string, Manner>()
  const refused = new Map<string, string[]>()
  /** Uids of requests that are worked on, and of those that were, by the pod. */
  const active = new Set<string>()
  const done = new Map<string, Set<string>>()

  const perform = async (object: V1CertificateSigningRequest, acts: readonly Act[]) => {
    let current = object
    for (const act of acts) {
      if (act.kind === 'wait') await delay(act.ms, undefined, { signal: stop.signal })
      else current = await performOne(kube, current, act, stop.signal)
    }
  }
  const handle = async (object: V1CertificateSigningRequest) => {
    const uid = podUidOf(object) ?? ''
    const read = readRequest(requestBytes(object))
    if ('flaw' in read) throw new Error(read.flaw)
    try {
      await perform(object, await (manners.get(uid) ?? honest)(read.csr.spki))
    } catch (thrown) {
      if (stop.signal.aborted) return
      if (!(thrown instanceof KubeError)) throw thrown
      refused.set(uid, [...(refused.get(uid) ?? []), thrown.message])
    }
  }
  const work = async () => {
    const path = `${CSR_PATH}?fieldSelector=spec.signerName%3D${encodeURIComponent(signerName)}`
    const handling: Promise<void>[] = []
    while (!stop.signal.aborted) {
      const { items } = await kube.get<{ items: V1CertificateSigningRequest[] }>(path)
      for (const object of items) {
        const [uid, pod] = [object.metadata?.uid ?? '', podUidOf(object) ?? '']
        const isOpen = awaitsSignature(object) || (unapproved(pod) && !object.status?.conditions)
        if (!isOpen || active.has(uid) || done.get(pod)?.has(uid)) continue
        active.add(uid)
        handling.push(
          handle(object).then(() => {
            active.delete(uid)
            done.set(pod, (done.get(pod) ?? new Set()).add(uid))
          }),
        )
      }
      await delay(POLL_MS)
    }
    await Promise.all(handling)
  }
  const working = work()
  return {
    behave: (podUid, manner) => {
      manners.set(podUid, manner)
      done.delete(podUid)
    },
    refusals: podUid => refused.get(podUid) ?? [],
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await working
    },
  }
}

const CONDITIONS = { approve: 'Approved', deny: 'Denied', fail: 'Failed' } as const

function performOne(
  kube: Kube,
  object: V1CertificateSigningRequest,
  act: Exclude<Act, { kind: 'wait' }>,
  signal: AbortSignal,
): Promise<V1CertificateSigningRequest> {
  if (act.kind === 'issue') return setCertificate(kube, object, act.pem, signal)
  const condition = { type: CONDITIONS[act.kind], reason: 'FaultySigner', message: 'it does as it likes' }
  return addCondition(kube, object, condition, signal)
}
