// The CA lives in one Secret. Whoever comes first creates it (creation is atomic: the loser reads the winner's);
// a new issuer replaces the old by compare-and-swap on resourceVersion. A CA that cannot be read is never overwritten.
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { CA_SECRET } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type CaMaterial, createIssuer, createRoot } from './authority.ts'
import { fromSecret, type SecretObject, toSecret } from './material.ts'

export type CaPlace = { readonly namespace: string; readonly trustDomain: string }
export type StoredCa = { readonly material: CaMaterial; readonly resourceVersion: string }

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
  const root = await createRoot(place.trustDomain, now)
  const issuer = await createIssuer(root, place.trustDomain, now)
  try {
    const secret = toSecret({ root, issuer }, place.namespace)
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
  { material: { root }, resourceVersion }: StoredCa,
  now: number,
  signal?: AbortSignal,
): Promise<StoredCa> {
  const issuer = await createIssuer(root, place.trustDomain, now)
  try {
    const secret = toSecret({ root, issuer }, place.namespace, resourceVersion)
    return stored(await kube.replace(secretPath(place), secret, signal), place, now)
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
  return { material: fromSecret(secret, place.trustDomain, now), resourceVersion }
}
