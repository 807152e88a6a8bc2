// Whom to trust at first contact: the trust bundle that the injector publishes, read with the pod's own token over the
// cluster's CA. Read again at each renewal and when the control stream fails to authenticate, so that a root
// rotation that was slept through heals; between those, the control stream pushes changes.
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem, type TrustBundle } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import type { StateVolume } from './state-volume.ts'

export type TrustStore = {
  /** The last good bundle of our own trust domain; undefined until there was one. */
  readonly bundle: Live<TrustBundle | undefined>
  /**
   * Reads what is published now.
   * @throws PosternError PSTN_API_UNAVAILABLE or PSTN_TRUST_INVALID; the last good bundle stays.
   */
  refresh(signal: AbortSignal): Promise<void>
  /** Takes our domain's bundle from what the control stream pushed. @throws PosternError PSTN_TRUST_INVALID */
  adopt(bundles: readonly TrustBundle[]): void
}

const PATH = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${TRUST_CONFIGMAP}`

type ConfigMap = { readonly data?: Readonly<Record<string, string>> }

export async function openTrustStore(
  kube: Kube,
  trustDomain: string,
  volume: StateVolume,
): Promise<TrustStore> {
  const bundle = live(restored(await volume.read('trust.json'), trustDomain))

  /** Throws what a listener threw, at once: `adopt` has nobody to await it. */
  const set = (next: TrustBundle): Promise<void> => {
    if (sameRoots(bundle.get(), next)) return Promise.resolve()
    bundle.set(next)
    return volume.write('trust.json', next)
  }

  return {
    bundle,
    refresh: async signal => {
      const { data = {} } = await kube.get<ConfigMap>(PATH, signal).catch(thrown => {
        const { message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
        throw new PosternError('PSTN_API_UNAVAILABLE', `the trust bundle: ${message}`, { cause: thrown })
      })
      const roots = splitPem(data['roots.pem'] ?? '')
      await set(checked({ trustDomain: data['trust-domain'] ?? '', roots }, trustDomain))
    },
    adopt: bundles => {
      const own = bundles.find(candidate => candidate.trustDomain === trustDomain)
      if (!own) throw invalid(`no bundle of ${trustDomain} was sent`)
      void set(checked(own, trustDomain))
    },
  }
}

/** An empty bundle of our own domain is a mistake, not a wish to trust nobody. */
function checked({ trustDomain, roots }: TrustBundle, expected: string): TrustBundle {
  if (trustDomain !== expected) {
    throw invalid(`it is for the trust domain ${JSON.stringify(trustDomain)}, not ${expected}`)
  }
  if (roots.length === 0) throw invalid('it holds no root')
  return { trustDomain, roots: [...new Set(roots.map(rootPem))] }
}

function rootPem(text: string): string {
  try {
    const { isCa, serial, pem } = parseCertificate(text)
    if (isCa) return pem
    throw invalid(`certificate ${serial} is no CA certificate`)
  } catch (thrown) {
    throw asPosternError(thrown, 'PSTN_TRUST_INVALID')
  }
}

const invalid = (why: string): PosternError => new PosternError('PSTN_TRUST_INVALID', why)

const sameRoots = (a: TrustBundle | undefined, b: TrustBundle): boolean =>
  a !== undefined && a.roots.length === b.roots.length && b.roots.every(root => a.roots.includes(root))

/** A bundle that was checked when it was kept, unless the file is damaged or of another pod's trust domain. */
function restored(value: unknown, trustDomain: string): TrustBundle | undefined {
  try {
    const { trustDomain: named, roots } = value as TrustBundle
    return checked({ trustDomain: named, roots }, trustDomain)
  } catch {
    return undefined
  }
}
