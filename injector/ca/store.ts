// The CA lives in one Secret. Whoever comes first creates it (creation is atomic: the loser reads the winner's);
// every change is a compare-and-swap on resourceVersion. A CA that cannot be read is never overwritten.
import { CA_STATUS_KEY, type CaStatus, decodeCaStatus } from '../../shared/ca/status.ts'
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { CA_CONFIGMAP, CA_SECRET, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type CaMaterial, createIssuer, createRoot } from './authority.ts'
import { revived, unexplained } from './lineage.ts'
import { anew, fromSecret, type SecretObject, toSecret, withMaterial } from './material.ts'
import { fingerprintOf } from './rotation.ts'

export type CaPlace = { readonly namespace: string; readonly trustDomain: string }
export type StoredCa = {
  readonly material: CaMaterial
  /** As it was read, to be written back. */
  readonly secret: SecretObject
  readonly resourceVersion: string
}

const collection = ({ namespace }: CaPlace): string => `/api/v1/namespaces/${namespace}/secrets`
const secretPath = (place: CaPlace): string => `${collection(place)}/${CA_SECRET}`

/** @throws PosternError PSTN_CONFIG_INVALID for an unusable Secret, KubeError (404 if there is none). */
export async function readCa(
  kube: Kube,
  place: CaPlace,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  return stored(await kube.get<SecretObject>(secretPath(place), signal), place, now)
}

/**
 * @throws PosternError PSTN_CA_REFUSED if there is none although there was one, or one that did not come from it;
 * otherwise as readCa.
 */
export async function readOrCreateCa(
  kube: Kube,
  place: CaPlace,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  const [present, published, told] = await Promise.all([
    readCa(kube, place, now, signal).catch(absent),
    publishedRoots(kube, place, signal),
    statusOf(kube, place, signal),
  ])
  if (present) return succeeding(present, { published, told }, place)
  if (published) throw refusal(place, `is gone, ConfigMap ${TRUST_CONFIGMAP} still publishes its root`)
  const root = await createRoot(place.trustDomain, now)
  const issuer = await createIssuer(root, place.trustDomain, now)
  return create(kube, place, toSecret({ root, issuer }, place.namespace), now, signal)
}

function absent(error: unknown): undefined {
  if (!isKubeError(error, 404)) throw error
}

/** What ConfigMap `postern-trust` says: nothing before there was a CA. */
async function publishedRoots(
  kube: Kube,
  { namespace }: CaPlace,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const path = `/api/v1/namespaces/${namespace}/configmaps/${TRUST_CONFIGMAP}`
  const published = await kube.get<{ data?: Record<string, string> }>(path, signal).catch(absent)
  return published?.data?.['roots.pem'] || undefined
}

/** What the status says of the CA as it was last; one that cannot be read says nothing. */
async function statusOf(
  kube: Kube,
  { namespace }: CaPlace,
  signal?: AbortSignal,
): Promise<CaStatus | undefined> {
  const path = `/api/v1/namespaces/${namespace}/configmaps/${CA_CONFIGMAP}`
  const status = await kube.get<{ data?: Record<string, string> }>(path, signal).catch(absent)
  try {
    return decodeCaStatus(JSON.parse(status?.data?.[CA_STATUS_KEY] ?? ''), CA_CONFIGMAP)
  } catch {
    return undefined
  }
}

type Known = { readonly published: string | undefined; readonly told: CaStatus | undefined }

/**
 * The root of another mesh, or of a backup from before a rotation, would end every connection of one that trusts another;
 * one that was revoked is in somebody else's hands, and a backup from before a switch would bring back a root whose key was
 * destroyed, and end every connection under the one that signs.
 */
function succeeding(present: StoredCa, { published, told }: Known, place: CaPlace): StoredCa {
  const [revoked] = revived(told?.former ?? [], present.material)
  if (revoked) {
    const way = `ConfigMap ${CA_CONFIGMAP} says so; without it this Secret would be taken`
    throw refusal(place, `trusts root ${revoked.slice(0, 12)} again, which is revoked: ${way}`)
  }
  const roots = readable(published ?? '')
  const signing = roots.filter(root => fingerprintOf(root) === told?.root.fingerprint)
  if (unexplained(signing, present.material).length > 0) {
    const where = `ConfigMaps ${CA_CONFIGMAP} and ${TRUST_CONFIGMAP} say so`
    throw refusal(place, `lacks root ${told?.root.fingerprint.slice(0, 12)}, which signs: ${where}`)
  }
  if (roots.length === 0 || unexplained(roots, present.material).length < roots.length) return present
  throw refusal(
    place,
    `holds none of the roots that ConfigMap ${TRUST_CONFIGMAP} publishes, and no rotation between`,
  )
}

/** What somebody wrote into the ConfigMap by hand says nothing. */
function readable(text: string): readonly string[] {
  try {
    return splitPem(text).map(pem => parseCertificate(pem).pem)
  } catch {
    return []
  }
}

const refusal = ({ namespace }: CaPlace, what: string): PosternError =>
  new PosternError('PSTN_CA_REFUSED', `Secret ${namespace}/${CA_SECRET} ${what}`)

/** Puts a CA back whose Secret was deleted, unless someone else was faster. */
export const restoreCa = (
  kube: Kube,
  place: CaPlace,
  { secret }: StoredCa,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> => create(kube, place, anew(secret), now, signal)

async function create(
  kube: Kube,
  place: CaPlace,
  secret: SecretObject,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  try {
    return stored(await kube.create(collection(place), secret, signal), place, now)
  } catch (error) {
    if (!isKubeError(error, 409)) throw error
    return readCa(kube, place, now, signal)
  }
}

/** Puts a new issuer under the same root in the Secret's place, unless someone else has changed it since. */
export async function renewIssuer(
  kube: Kube,
  place: CaPlace,
  before: StoredCa,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  const issuer = await createIssuer(before.material.root, place.trustDomain, now)
  const swapped = await swapCa(kube, place, before, { ...before.material, issuer }, [], now, signal)
  return swapped ?? readCa(kube, place, now, signal)
}

/**
 * Puts another CA in the place of the one that was read, and takes the annotations of `answered` requests off; undefined if
 * someone else has changed the Secret since.
 */
export async function swapCa(
  kube: Kube,
  place: CaPlace,
  { secret }: StoredCa,
  material: CaMaterial,
  answered: readonly string[],
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa | undefined> {
  const { annotations = {} } = secret.metadata
  const kept = Object.fromEntries(Object.entries(annotations).filter(([key]) => !answered.includes(key)))
  const metadata = { ...secret.metadata, annotations: kept }
  const wanted = withMaterial({ ...secret, metadata }, material)
  // What could not be read back must not be written: every replica would refuse it.
  fromSecret(wanted, place.trustDomain, now)
  try {
    return stored(await kube.replace(secretPath(place), wanted, signal), place, now)
  } catch (error) {
    if (isKubeError(error, 409)) return undefined
    throw error
  }
}

/**
 * An issuer is due at two thirds of its life: ten days are left for the renewal to succeed. Earlier where the longest leaf
 * would outlive it, but not before a third: a lifetime beyond its own is cut all the same. One that lives as long as its
 * root cannot be bettered.
 */
export function issuerIsDue({ root, issuer }: CaMaterial, now: number, longestLeafMs = 0): boolean {
  const { notBefore, notAfter } = parseCertificate(issuer.certificate)
  const [start, end] = [notBefore.getTime(), notAfter.getTime()]
  if (end >= parseCertificate(root.certificate).notAfter.getTime()) return false
  const share = (part: number) => start + (end - start) * part
  return now >= Math.min(share(2 / 3), Math.max(share(1 / 3), end - longestLeafMs))
}

function stored(secret: SecretObject, place: CaPlace, now: number): StoredCa {
  const { resourceVersion } = secret.metadata
  if (!resourceVersion) throw new PosternError('PSTN_API_UNAVAILABLE', 'a Secret without resourceVersion')
  return { material: fromSecret(secret, place.trustDomain, now), secret, resourceVersion }
}
