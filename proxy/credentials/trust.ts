// Whom to trust at first contact: the trust bundle that the injector publishes (published-trust.ts), read with the pod's
// own token over the cluster's CA. Read again at each renewal and when the control stream fails to authenticate, so that a root
// rotation that was slept through heals; between those, the control stream pushes changes. What is read and what is pushed may
// be behind each other: either is taken whole, and neither brings back a root that is known to be revoked. While a stream is held,
// what is published takes away no root that it told of and says nothing of: so it is when etcd was put back to before a rotation,
// until the leader has published anew.
import { isDeepStrictEqual } from 'node:util'
import type { FormerRoots } from '../../shared/former-roots.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import type { OwnTrust, TrustBundle } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { checkedBundle, invalid, type PassedOver, publishedTrust, sameRoots } from './published-trust.ts'
import type { StateVolume } from './state-volume.ts'
import { vouchingRoots } from './vouching.ts'

export type TrustStore = {
  /** The last good bundle of our own trust domain; undefined until there was one. */
  readonly bundle: Live<TrustBundle | undefined>
  /** Roots (PEM) by which a live connection may have been let in: those of the bundle, and some that were before. */
  readonly vouching: Live<readonly string[]>
  /**
   * Reads what is published now. With `doubt` the bundle in force has just failed to verify the injector.
   * @throws PosternError PSTN_API_UNAVAILABLE or PSTN_TRUST_INVALID; the last good bundle stays.
   */
  refresh(signal: AbortSignal, doubt?: 'doubt'): Promise<void>
  /**
   * Takes our domain's bundle from what the control stream pushed; `stream` is aborted when that ends.
   * @throws PosternError PSTN_TRUST_INVALID
   */
  adopt(bundles: readonly TrustBundle[], former?: FormerRoots, stream?: AbortSignal): void
}

const NOBODY: FormerRoots = { retired: [], revoked: [] }
const NO_STREAM = AbortSignal.abort()

export async function openTrustStore(
  kube: Kube,
  trustDomain: string,
  volume: StateVolume,
  passedOver: PassedOver = () => {},
): Promise<TrustStore> {
  const published = publishedTrust(kube, trustDomain, passedOver)
  const kept = restored(await volume.read('trust.json'), trustDomain)
  const bundle = live(kept?.bundle)
  /** Only grows: whoever does not name one of them may be behind. */
  const revoked = new Set(kept?.revoked)
  let retired: readonly string[] = []
  let held = NO_STREAM
  const vouchingNow = vouchingRoots()
  const vouching = live(vouchingNow(kept?.bundle.roots ?? [], retired))

  let complained = ''
  /** Of roots that are told again after they were revoked: the rotation that brings one waits for this sidecar. */
  const complain = (roots: readonly string[]) => {
    const fingerprints = roots.map(root => parseCertificate(root).fingerprint256).join()
    if (fingerprints !== '' && fingerprints !== complained)
      passedOver(invalid(`root ${fingerprints} is told again, and was revoked`))
    complained = fingerprints
  }

  /** Throws what a listener threw, at once: `adopt` has nobody to await it. */
  const take = ({ roots: told, former }: OwnTrust): Promise<void> => {
    const knew = revoked.size
    const gone = revoked.union(new Set(former?.revoked))
    const roots = told.filter(root => !gone.has(parseCertificate(root).fingerprint256))
    if (roots.length === 0) throw invalid('every root that it holds is revoked')
    // Not before: what is refused leaves no mark.
    for (const fingerprint of gone) revoked.add(fingerprint)
    complain(told.filter(root => !roots.includes(root)))
    retired = former?.retired ?? retired
    const next = { trustDomain, roots }
    const isNew = !sameRoots(bundle.get(), next)
    const vouch = vouchingNow(roots, retired)
    try {
      // First: whatever becomes of the bundle, who was let in by a root that is gone goes.
      if (!isDeepStrictEqual(vouch, vouching.get())) vouching.set(vouch)
    } finally {
      if (isNew) bundle.set(next)
    }
    if (!isNew && revoked.size === knew) return Promise.resolve()
    return volume.write('trust.json', { ...next, revoked: [...revoked] })
  }

  return {
    bundle,
    vouching,
    refresh: async (signal, doubt) => {
      const told = await published.read(signal, { bundle: bundle.get(), doubted: doubt !== undefined })
      const missing = held.aborted || doubt ? undefined : lackedBy(told, bundle.get()?.roots ?? [])
      if (missing)
        return passedOver(invalid(`what is published lacks the root ${missing}, and does not say why`))
      await take(told)
    },
    adopt: (bundles, former = NOBODY, stream = NO_STREAM) => {
      const own = bundles.find(candidate => candidate.trustDomain === trustDomain)
      if (!own) throw invalid(`no bundle of ${trustDomain} was sent`)
      void take({ ...checkedBundle(own, trustDomain), former })
      held = stream
    },
  }
}

/** Fingerprint of a root of `present` that is in the bundle neither as such nor as one that was retired or revoked. */
function lackedBy({ roots, former }: OwnTrust, present: readonly string[]): string | undefined {
  const gone = [...(former?.retired ?? []), ...(former?.revoked ?? [])]
  return present
    .filter(root => !roots.includes(root))
    .map(root => parseCertificate(root).fingerprint256)
    .find(fingerprint => !gone.includes(fingerprint))
}

type Kept = { readonly bundle: TrustBundle; readonly revoked: readonly string[] }

/** What was checked when it was kept, unless the file is damaged or of another pod's trust domain. */
function restored(value: unknown, trustDomain: string): Kept | undefined {
  try {
    const { trustDomain: named, roots, revoked } = value as TrustBundle & { readonly revoked?: unknown }
    const bundle = checkedBundle({ trustDomain: named, roots }, trustDomain)
    return { bundle, revoked: Array.isArray(revoked) ? revoked.map(String) : [] }
  } catch {
    return undefined
  }
}
