// The API that Kubernetes has for roots (certificates.k8s.io ClusterTrustBundle): beta and off by default up to 1.36, on
// from 1.37. The injector writes one, sidecars read it; where there is no such API the ConfigMap alone serves.
import { CLUSTER_TRUST_BUNDLE } from './names.ts'

/** The best first. */
export const CLUSTER_TRUST_BUNDLE_VERSIONS = ['v1', 'v1beta1'] as const
export type ClusterTrustBundleVersion = (typeof CLUSTER_TRUST_BUNDLE_VERSIONS)[number]

export type ClusterTrustBundle = {
  readonly apiVersion: string
  readonly kind: 'ClusterTrustBundle'
  readonly metadata: {
    readonly name: string
    readonly resourceVersion?: string
    readonly annotations?: Readonly<Record<string, string>>
  }
  /** `trustBundle`: PEM, CA certificates alone, at least one, none twice. `signerName` never changes. */
  readonly spec: { readonly signerName: string; readonly trustBundle: string }
}

const certificatesApi = (version: ClusterTrustBundleVersion): string => `/apis/certificates.k8s.io/${version}`

export const clusterTrustBundles = (version: ClusterTrustBundleVersion): string =>
  `${certificatesApi(version)}/clustertrustbundles`

export const clusterTrustBundlePath = (version: ClusterTrustBundleVersion): string =>
  `${clusterTrustBundles(version)}/${CLUSTER_TRUST_BUNDLE}`
