// What is meant by an argument of `certs revoke` and `certs renew`: a pod, an identity or a certificate. They cannot be
// mistaken for each other: an identity has its scheme, a pod its namespace before a slash, a serial neither.
import type { V1Pod } from '@kubernetes/client-node'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { INJECTOR_NAME, PROXY_CONTAINER, SYSTEM_NAMESPACE, WORKLOAD_SIGNER } from '../../shared/names.ts'
import { parseSerial } from '../../shared/revocation.ts'
import { parseSpiffeId, type SpiffeId, workloadOf } from '../../shared/spiffe-id.ts'
import { UsageError } from '../command.ts'

export type Subject =
  | { readonly kind: 'pod'; readonly namespace: string; readonly name: string }
  | { readonly kind: 'identity'; readonly identity: SpiffeId }
  | { readonly kind: 'serial'; readonly serial: string }

const POD = /^([a-z0-9-]+)\/([a-z0-9][a-z0-9.-]*)$/

/** @throws UsageError saying what would make sense. */
export function parseSubject(written: string): Subject {
  if (written.startsWith('spiffe:')) return { kind: 'identity', identity: identity(written) }
  const pod = podOf(written)
  if (pod) return pod
  const serial = parseSerial(written)
  if (serial) return { kind: 'serial', serial }
  const forms = '<namespace>/<pod>, spiffe://<trust domain>/ns/<namespace>/sa/<account>, or a serial in hex'
  throw new UsageError(
    `${JSON.stringify(written)} is neither a pod, an identity nor a serial: write ${forms}`,
  )
}

export function podOf(written: string): Extract<Subject, { kind: 'pod' }> | undefined {
  const [, namespace, name] = POD.exec(written) ?? []
  return namespace && name ? { kind: 'pod', namespace, name } : undefined
}

function identity(written: string): SpiffeId {
  let id: SpiffeId
  try {
    ;({ id } = parseSpiffeId(written))
  } catch (thrown) {
    throw new UsageError(asPosternError(thrown, 'PSTN_PEER_ID_INVALID').message)
  }
  const { namespace, serviceAccount } = workloadOf(id) ?? {}
  if (namespace === SYSTEM_NAMESPACE && serviceAccount === INJECTOR_NAME) {
    throw new UsageError('the injector’s own identity cannot be revoked: revoke its certificate, or the root')
  }
  return id
}

export type FoundPod = {
  readonly uid: string
  /** Why its certificates cannot be told from those of other pods; undefined if they can. */
  readonly unnamed: string | undefined
}

/** @throws PosternError PSTN_CONFIG_INVALID if there is no such pod, or it has no sidecar. */
export async function findPod(
  kube: Kube,
  { namespace, name }: Extract<Subject, { kind: 'pod' }>,
  signal: AbortSignal,
): Promise<FoundPod> {
  const pod = await kube
    .get<V1Pod>(`/api/v1/namespaces/${namespace}/pods/${name}`, signal)
    .catch((thrown: unknown) => {
      if (!isKubeError(thrown, 404)) throw thrown
      const instead = 'its certificates may live on: revoke them by serial, or its identity'
      throw new PosternError('PSTN_CONFIG_INVALID', `there is no pod ${namespace}/${name}; ${instead}`)
    })
  const { initContainers = [], containers = [] } = pod.spec ?? {}
  const sidecar = [...initContainers, ...containers].find(container => container.name === PROXY_CONTAINER)
  if (!sidecar) throw new PosternError('PSTN_CONFIG_INVALID', `pod ${namespace}/${name} has no sidecar`)
  const config = sidecar.env?.find(variable => variable.name === 'POSTERN_CONFIG')?.value
  const named = hasOurVolume(pod)
  return { uid: pod.metadata?.uid ?? '', unnamed: named ? undefined : whyUnnamed(config) }
}

/** The kubelet asked the built-in signer: in a volume that injection added, or that the pod had. */
const hasOurVolume = ({ spec }: V1Pod): boolean =>
  (spec?.volumes ?? [])
    .flatMap(({ projected }) => projected?.sources ?? [])
    .some(({ podCertificate }) => podCertificate?.signerName === WORKLOAD_SIGNER)

/** The built-in signer writes the pod's uid into a certificate; no other does. */
function whyUnnamed(config = '{}'): string | undefined {
  const { signerName = WORKLOAD_SIGNER, certificateSource } = settingsOf(config)
  if (certificateSource !== undefined) return 'its certificates do not come from the API server'
  return signerName === WORKLOAD_SIGNER ? undefined : `its certificates are signed by ${signerName}`
}

function settingsOf(config: string): { signerName?: unknown; certificateSource?: unknown } {
  try {
    return Object(JSON.parse(config))
  } catch {
    return {}
  }
}

/** A misspelt identity would be revoked without an effect. Whoever may not look is not told. */
export async function lacksAccount(kube: Kube, id: SpiffeId, signal: AbortSignal): Promise<boolean> {
  const { namespace, serviceAccount } = workloadOf(id) ?? {}
  if (!namespace || !serviceAccount) return false
  try {
    await kube.get(`/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}`, signal)
    return false
  } catch (thrown) {
    return isKubeError(thrown, 404)
  }
}
