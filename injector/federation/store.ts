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
  update(
    trustDomain: string,
    change: (former: FetchedBundle | undefined) => FetchedBundle,
    signal: AbortSignal,
  ): Promise<FetchedBundle>
  /** Drops the entries of all other trust domains. @throws KubeError */
  prune(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void>
}

type Data = Readonly<Record<string, string>>

/**
 * @param known What this replica has of all partners: where the ConfigMap was deleted, one partner's answer must not be all that
 * is written, since what is known of the others would be gone until each of them answers again.
 */
export function createPartnerStore(
  kube: Kube,
  known: () => ReadonlyMap<string, FetchedBundle>,
): PartnerStore {
  const lost = (): Data => Object.fromEntries([...known()].map(([name, one]) => [name, writeFetched(one)]))
  let last: Promise<unknown> = Promise.resolve()
  /** One after the other: partners answer at the same time. */
  const swap = (change: (data: Data) => Data | undefined, signal: AbortSignal): Promise<void> => {
    const next = last.then(() => compareAndSwap(kube, change, lost, signal))
    last = next.catch(() => undefined)
    return next
  }
  return {
    update: async (trustDomain, change, signal) => {
      let result: FetchedBundle | undefined
      await swap(data => {
        result = change(entry(data, trustDomain))
        return { ...data, [trustDomain]: writeFetched(result) }
      }, signal)
      return result ?? change(undefined)
    },
    prune: (kept, signal) =>
      swap(data => {
        const left = Object.entries(data).filter(([trustDomain]) => kept.has(trustDomain))
        return left.length < Object.keys(data).length ? Object.fromEntries(left) : undefined
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

/** `change` gives undefined where nothing is to be written. */
async function compareAndSwap(
  kube: Kube,
  change: (data: Data) => Data | undefined,
  lost: () => Data,
  signal: AbortSignal,
) {
  for (let tries = 1; ; tries += 1) {
    const present = await kube.get<V1ConfigMap>(PATH, signal).catch((thrown: unknown) => {
      if (isKubeError(thrown, 404)) return undefined
      throw thrown
    })
    const data = change(present ? (present.data ?? {}) : lost())
    if (data === undefined) return
    const metadata = { ...present?.metadata, name: PARTNERS_CONFIGMAP, namespace: SYSTEM_NAMESPACE }
    const wanted: V1ConfigMap = { metadata, data }
    try {
      if (present) await kube.replace(PATH, wanted, signal)
      else await kube.create(COLLECTION, wanted, signal)
      return
    } catch (thrown) {
      if (!isKubeError(thrown, 409) || tries === MOST_TRIES) throw thrown
    }
  }
}
