// Names that the sidecar, the injector, the manifests and the tests share. A test holds deploy/ against them.

export const DOMAIN = 'postern.dev'
export const SYSTEM_NAMESPACE = 'postern-system'
export const INJECTOR_NAME = 'postern-injector'
export const WORKLOAD_SIGNER = 'postern.dev/workload'
/** For servers that are no workloads of the mesh: signs what a person has approved. */
export const SERVING_SIGNER = 'postern.dev/serving'

/** The trust bundle's ConfigMap in the injector's namespace: keys `trust-domain` and `roots.pem`, and those of former-roots.ts. */
export const TRUST_CONFIGMAP = 'postern-trust'
/** Who is refused, and who is to renew: keys `revocations.json` and `renewals.json`, in the injector's namespace. */
export const REVOCATIONS_CONFIGMAP = 'postern-revocations'
/** What was fetched of partners' bundles, and how: a key for each trust domain. The injector alone writes it. */
export const PARTNERS_CONFIGMAP = 'postern-partners'
/** The same roots as the API object that Kubernetes has for them: its signer's name with `:` for `/`, and ours. */
export const CLUSTER_TRUST_BUNDLE = 'postern.dev:workload:roots'
/** On a ClusterTrustBundle: whose roots it holds. */
export const TRUST_DOMAIN_ANNOTATION = 'postern.dev/trust-domain'
/** The CA's Secret in the injector's namespace. */
export const CA_SECRET = 'postern-ca'
/** What everybody may know of the CA, and of a rotation of its root: the ConfigMap beside the Secret. */
export const CA_CONFIGMAP = 'postern-ca'
export const LEADER_LEASE = 'postern-injector'
/** ClusterRole that lets a namespace's service accounts create and get CertificateSigningRequests. */
export const WORKLOAD_ROLE = 'postern-workload'

export const POLICY_LABEL = 'postern.dev/policy'
/** On ConfigMaps of the injector's namespace: partners and partner clients. */
export const FEDERATION_LABEL = 'postern.dev/federation'
/** On a namespace: `enabled` opts every pod in. On a pod the annotation of the same name wins. */
export const INJECT_KEY = 'postern.dev/inject'

/** Containers and volumes that injection adds. */
export const PROXY_CONTAINER = 'postern-proxy'
export const INIT_CONTAINER = 'postern-init'
export const STATE_VOLUME = 'postern-state'
export const TOKEN_VOLUME = 'postern-token'
export const CERT_FILES_VOLUME = 'postern-cert-files'
/** With `postern.dev/certificate-source: pod-certificate`: the kubelet's, and its one file of key and chain. */
export const CERTIFICATE_VOLUME = 'postern-certificate'
export const CREDENTIAL_BUNDLE = 'credentials.pem'
/** Mount points in the sidecar; the state volume is memory-backed and mounted by nobody else. */
export const STATE_DIR = '/run/postern'
export const TOKEN_DIR = '/var/run/secrets/postern'
/** Where the volume of `postern.dev/certificate-volume`, or the one above, is mounted: a socket's path may have 107 bytes in all. */
export const CERTIFICATE_DIR = '/var/run/secrets/postern-certificate'
/** Where the containers of `postern.dev/cert-files` find their files, and the sidecar writes them. */
export const CERT_FILES_DIR = '/var/run/secrets/postern.dev'

/** A pod may own at most this many certificate requests at a time: `postern-<uid>-0` to `-7`. */
export const CSR_SLOTS = 8
export const csrName = (podUid: string, slot: number): string => `postern-${podUid}-${slot}`
