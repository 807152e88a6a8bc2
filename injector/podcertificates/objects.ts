// The calls to the API server that serving PodCertificateRequests makes.
import type { Kube } from '../../shared/kube/rest.ts'
import { servedVersion, unlessMissing } from '../kube/discovery.ts'
import type { PodCertificateRequest, PodCertificateStatus } from './request.ts'

const GROUP = 'certificates.k8s.io'
const RESOURCE = 'podcertificaterequests'
/** The best first. Beta and off by default up to 1.36, on from 1.37. */
const VERSIONS = ['v1', 'v1beta1'] as const
export type PodCertificateVersion = (typeof VERSIONS)[number]

export const podCertificateVersion = (
  kube: Kube,
  signal: AbortSignal,
): Promise<PodCertificateVersion | undefined> =>
  servedVersion(kube, { group: GROUP, resource: RESOURCE, versions: VERSIONS }, signal)

export const podCertificateRequests = (version: PodCertificateVersion): string =>
  `/apis/${GROUP}/${version}/${RESOURCE}`

/** `key`: `<namespace>/<name>` */
function pathOf(version: PodCertificateVersion, key: string): string {
  const [namespace = '', name = ''] = key.split('/')
  return `/apis/${GROUP}/${version}/namespaces/${namespace}/${RESOURCE}/${encodeURIComponent(name)}`
}

export const getRequest = (kube: Kube, version: PodCertificateVersion, key: string, signal: AbortSignal) =>
  unlessMissing(kube.get<PodCertificateRequest>(pathOf(version, key), signal))

/** @throws KubeError 409 if it changed, 422 if it was answered or the API server takes the answer for none. */
export const setStatus = (
  kube: Kube,
  version: PodCertificateVersion,
  { key, request, status }: { key: string; request: PodCertificateRequest; status: PodCertificateStatus },
  signal: AbortSignal,
): Promise<PodCertificateRequest> => {
  const typed = { apiVersion: `${GROUP}/${version}`, kind: 'PodCertificateRequest' }
  return kube.replace(`${pathOf(version, key)}/status`, { ...request, ...typed, status }, signal)
}
