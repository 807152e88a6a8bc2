// The ConfigMap `postern-ca`: what the CA is and what a rotation of its root waits for, for whoever may read ConfigMaps in
// the injector's namespace. It is told anew from the Secret. Nothing is read from it but, at a start, which roots were
// revoked and which one signs, in case the Secret is an old backup: who may write it may write the Secret (deploy/manifests/admission-trust.yaml).
import type { LingeringRoot, UnconfirmedPod } from '../../shared/ca/status.ts'
import { CA_STATUS_KEY, type CaCertificate, type CaStatus } from '../../shared/ca/status.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { CA_CONFIGMAP } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import type { CaMaterial } from './authority.ts'
import { recordOf } from './rotation.ts'

export type Waiting = {
  readonly waitingFor: readonly string[]
  readonly unconfirmed: readonly UnconfirmedPod[]
  readonly lingering: readonly LingeringRoot[]
}

/** A ConfigMap holds 1 MiB, and a person reads fewer. */
const MOST_PODS = 50

export function statusOf(material: CaMaterial, { waitingFor, unconfirmed, lingering }: Waiting): CaStatus {
  const { root, issuer, next, retired = [] } = material
  return {
    ...recordOf(material),
    root: shown(root.certificate),
    issuer: shown(issuer.certificate),
    ...(next && { next: shown(next.certificate) }),
    retired: retired.map(shown),
    waitingFor,
    unconfirmed: { count: unconfirmed.length, pods: unconfirmed.slice(0, MOST_PODS) },
    lingering,
  }
}

function shown(pem: string): CaCertificate {
  const { fingerprint256, notAfter } = parseCertificate(pem)
  return { fingerprint: fingerprint256, notAfter: notAfter.toISOString() }
}

type ConfigMap = {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion?: string }
  readonly data?: Readonly<Record<string, string>>
}

/** Writes it unless it says so already, whoever edited or deleted it. @throws KubeError */
export async function publishStatus(
  kube: Kube,
  namespace: string,
  status: CaStatus,
  signal: AbortSignal,
): Promise<void> {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`
  const path = `${collection}/${CA_CONFIGMAP}`
  const data = {
    phase: status.phase,
    'waiting-for': status.waitingFor.join('\n'),
    [CA_STATUS_KEY]: `${JSON.stringify(status, null, 2)}\n`,
  }
  const present = await kube.get<ConfigMap>(path, signal).catch((thrown: unknown) => {
    if (isKubeError(thrown, 404)) return undefined
    throw thrown
  })
  if (Object.entries(data).every(([key, text]) => present?.data?.[key] === text)) return
  const wanted = { metadata: { ...present?.metadata, name: CA_CONFIGMAP, namespace }, data }
  if (present) await kube.replace<ConfigMap>(path, wanted, signal)
  else await kube.create<ConfigMap>(collection, wanted, signal)
}
