// What a sidecar's trust store is made of, in memory: what is published, as versions of each object, and the volume.
import type { StateFile, StateVolume } from '../../proxy/credentials/state-volume.ts'
import { writeFormer } from '../../shared/former-roots.ts'
import { type Kube, KubeError } from '../../shared/kube/rest.ts'
import { DOMAIN, TRUST_DOMAIN_ANNOTATION } from '../../shared/names.ts'
import type { OwnTrust } from '../../shared/trust-bundle.ts'

type Answers = { clusterTrustBundle?: OwnTrust; configMap?: OwnTrust }

/** Both objects as the leader writes them; 404 for one that is absent. */
export const publishedBy = (answers: Answers): Kube => ({ get: path => answer(path, answers) }) as Kube
export const NO_API = publishedBy({})

async function answer<T>(path: string, { clusterTrustBundle, configMap }: Answers): Promise<T> {
  const isBundle = path.includes('clustertrustbundles')
  const found = isBundle ? clusterTrustBundle : configMap
  if (!found) throw new KubeError(404, '', 'not found')
  const { trustDomain, roots, former } = found
  const pem = roots.join('')
  const [prefix, named] = isBundle ? [`${DOMAIN}/`, TRUST_DOMAIN_ANNOTATION] : ['', 'trust-domain']
  const texts = { [named]: trustDomain, ...(former && writeFormer(former, prefix)) }
  const object = isBundle
    ? { metadata: { annotations: texts }, spec: { trustBundle: pem } }
    : { data: { ...texts, 'roots.pem': pem } }
  return object as T
}

export function memory(files = new Map<StateFile, string>()): StateVolume {
  return {
    read: async file => JSON.parse(files.get(file) ?? 'null') ?? undefined,
    write: async (file, value) => void files.set(file, JSON.stringify(value)),
    remove: async file => void files.delete(file),
  }
}
