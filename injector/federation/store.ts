// The ConfigMap postern-partners, written by compare-and-swap: a leader that has lost its lease without noticing cannot undo
// what the next one wrote. Only the injector may write it (deploy/manifests/admission-trust.yaml).
import type { V1ConfigMap } from '@kubernetes/client-node'
import { type FetchedBundle, parseFetched, writeFetched } from '../../shared/federation/fetched.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { PARTNERS_CONFIGMAP, SYSTEM_NAMESPACE } from '../../shared/names.ts'

const COLLECTION = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`
const PATH = `${COLLECTION}/${PARTNERS_CONFIGMAP}`
const MOST_TRIES = 5

export type PartnerStore = {
  /** Puts what `change` makes of the present entry in its place. @throws KubeError */
  update<T>(
    trustDomain: string,
    change: (former: FetchedBundle | undefined) => Change<T, FetchedBundle>,
    signal: AbortSignal,
  ): Promise<T>
  /** Drops what is not to be kept, and puts back what is known and gone: whether anything. @throws KubeError */
  tidy(isKept: (trustDomain: string) => boolean, signal: AbortSignal): Promise<boolean>
}

/** Without `next` nothing is written. */
export type Change<T, N> = { readonly result: T; readonly next?: N }

type Data = Readonly<Record<string, string>>

/** @param known What this replica has of the partners: it outlives a ConfigMap that somebody deletes, empties or spoils. */
export function createPartnerStore(
  kube: Kube,
  known: () => ReadonlyMap<string, FetchedBundle>,
): PartnerStore {
  let last: Promise<unknown> = Promise.resolve()
  /** One after the other: partners answer at the same time. */
  const swap = <T>(change: (data: Data) => Change<T, Data>, signal: AbortSignal): Promise<T> => {
    const next = last.then(() => compareAndSwap(kube, change, signal))
    last = next.catch(() => undefined)
    return next
  }
  return {
    update: (trustDomain, change, signal) =>
      swap(data => {
        const { result, next } = change(entry(data, trustDomain) ?? known().get(trustDomain))
        return { result, ...(next && { next: { ...data, [trustDomain]: writeFetched(next) } }) }
      }, signal),
    tidy: (isKept, signal) =>
      swap(data => {
        const kept = Object.entries(data).filter(([trustDomain]) => isKept(trustDomain))
        const gone = [...known()].filter(
          ([trustDomain]) => isKept(trustDomain) && entry(data, trustDomain) === undefined,
        )
        if (kept.length === Object.keys(data).length && gone.length === 0) return { result: false }
        const written = gone.map(([name, one]): [string, string] => [name, writeFetched(one)])
        return { result: true, next: Object.fromEntries([...kept, ...written]) }
      }, signal),
  }
}

function entry(data: Data, trustDomain: string): FetchedBundle | undefined {
  const json = data[trustDomain]
  try {
    return json === undefined ? undefined : parseFetched(trustDomain, json)
  } catch {
    // What nobody can read is written anew.
    return undefined
  }
}

async function compareAndSwap<T>(
  kube: Kube,
  change: (data: Data) => Change<T, Data>,
  signal: AbortSignal,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    const present = await kube.get<V1ConfigMap>(PATH, signal).catch((thrown: unknown) => {
      if (isKubeError(thrown, 404)) return undefined
      throw thrown
    })
    const { result, next: data } = change(present?.data ?? {})
    if (data === undefined) return result
    const metadata = { ...present?.metadata, name: PARTNERS_CONFIGMAP, namespace: SYSTEM_NAMESPACE }
    const wanted: V1ConfigMap = { metadata, data }
    try {
      if (present) await kube.replace(PATH, wanted, signal)
      else await kube.create(COLLECTION, wanted, signal)
      return result
    } catch (thrown) {
      if (!isKubeError(thrown, 409) || tries === MOST_TRIES) throw thrown
    }
  }
}
