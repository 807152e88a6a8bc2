// Whom to trust at first contact: the trust bundle that the injector publishes (published-trust.ts), read with the pod's
// own token over the cluster's CA. Read again at each renewal and when the control stream fails to authenticate, so that a root
// rotation that was slept through heals; between those, the control stream pushes changes.
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { checkedBundle, invalid, type PassedOver, publishedTrust, sameRoots } from './published-trust.ts'
import type { StateVolume } from './state-volume.ts'

export type TrustStore = {
  /** The last good bundle of our own trust domain; undefined until there was one. */
  readonly bundle: Live<TrustBundle | undefined>
  /**
   * Reads what is published now. With `doubt` the bundle in force has just failed to verify the injector.
   * @throws PosternError PSTN_API_UNAVAILABLE or PSTN_TRUST_INVALID; the last good bundle stays.
   */
  refresh(signal: AbortSignal, doubt?: 'doubt'): Promise<void>
  /** Fingerprints of roots that were replaced in good order, as the control stream last said: nobody else may say it. */
  readonly retired: Live<readonly string[]>
  /** Takes our domain's bundle from what the control stream pushed. @throws PosternError PSTN_TRUST_INVALID */
  adopt(bundles: readonly TrustBundle[], retired?: readonly string[]): void
}

export async function openTrustStore(
  kube: Kube,
  trustDomain: string,
  volume: StateVolume,
  passedOver: PassedOver = () => {},
): Promise<TrustStore> {
  const published = publishedTrust(kube, trustDomain, passedOver)
  const bundle = live(restored(await volume.read('trust.json'), trustDomain))

  const retired = live<readonly string[]>([])

  /** Throws what a listener threw, at once: `adopt` has nobody to await it. */
  const set = (next: TrustBundle): Promise<void> => {
    if (sameRoots(bundle.get(), next)) return Promise.resolve()
    bundle.set(next)
    return volume.write('trust.json', next)
  }

  return {
    bundle,
    retired,
    refresh: async (signal, doubt) =>
      set(await published.read(signal, { bundle: bundle.get(), doubted: doubt !== undefined })),
    adopt: (bundles, inGoodOrder = []) => {
      const own = bundles.find(candidate => candidate.trustDomain === trustDomain)
      if (!own) throw invalid(`no bundle of ${trustDomain} was sent`)
      const next = checkedBundle(own, trustDomain)
      // First: a root that is missing from the bundle is judged by it.
      retired.set(inGoodOrder)
      void set(next)
    },
  }
}

/** A bundle that was checked when it was kept, unless the file is damaged or of another pod's trust domain. */
function restored(value: unknown, trustDomain: string): TrustBundle | undefined {
  try {
    const { trustDomain: named, roots } = value as TrustBundle
    return checkedBundle({ trustDomain: named, roots }, trustDomain)
  } catch {
    return undefined
  }
}
