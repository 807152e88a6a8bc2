// The CA lives in one Secret. Whoever comes first creates it (creation is atomic: the loser reads the winner's);
// a new issuer replaces the old by compare-and-swap on resourceVersion. A CA that cannot be read is never overwritten.
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { CA_SECRET, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type CaMaterial, createIssuer, createRoot } from './authority.ts'
import { anew, fromSecret, type SecretObject, toSecret, withMaterial } from './material.ts'

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

/** @throws PosternError PSTN_CA_REFUSED if there is none although there was one; otherwise as readCa. */
export async function readOrCreateCa(
  kube: Kube,
  place: CaPlace,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  try {
    return await readCa(kube, place, now, signal)
  } catch (error) {
    if (!isKubeError(error, 404)) throw error
  }
  await refuseSuccession(kube, place, signal)
  const root = await createRoot(place.trustDomain, now)
  const issuer = await createIssuer(root, place.trustDomain, now)
  return create(kube, place, toSecret({ root, issuer }, place.namespace), now, signal)
}

/** A new root would end every connection of a mesh that trusts another: the leader still has that one, or a backup does. */
async function refuseSuccession(kube: Kube, { namespace }: CaPlace, signal?: AbortSignal): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}/configmaps/${TRUST_CONFIGMAP}`
  const published = await kube.get<{ data?: Record<string, string> }>(path, signal).catch(error => {
    if (isKubeError(error, 404)) return undefined
    throw error
  })
  if (!published?.data?.['roots.pem']) return
  const missing = `Secret ${namespace}/${CA_SECRET} is gone, ConfigMap ${TRUST_CONFIGMAP} still publishes its root`
  throw new PosternError('PSTN_CA_REFUSED', missing)
}

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
  { material: { root }, secret }: StoredCa,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  const issuer = await createIssuer(root, place.trustDomain, now)
  try {
    const renewed = withMaterial(secret, { root, issuer })
    return stored(await kube.replace(secretPath(place), renewed, signal), place, now)
  } catch (error) {
    if (!isKubeError(error, 409)) throw error
    return readCa(kube, place, now, signal)
  }
}

/** An issuer is due at two thirds of its life: ten days are left for the renewal to succeed. */
export function issuerIsDue({ issuer }: CaMaterial, now: number): boolean {
  const { notBefore, notAfter } = parseCertificate(issuer.certificate)
  return now >= notBefore.getTime() + ((notAfter.getTime() - notBefore.getTime()) * 2) / 3
}

function stored(secret: SecretObject, place: CaPlace, now: number): StoredCa {
  const { resourceVersion } = secret.metadata
  if (!resourceVersion) throw new PosternError('PSTN_API_UNAVAILABLE', 'a Secret without resourceVersion')
  return { material: fromSecret(secret, place.trustDomain, now), secret, resourceVersion }
}
