// The two containers and the volumes that injection adds, as data. Why each field is as it is: docs/injection.md.
import type { V1Container, V1EnvVar, V1Volume } from '@kubernetes/client-node'
import {
  CERT_FILES_DIR,
  CERT_FILES_VOLUME,
  CERTIFICATE_DIR,
  CERTIFICATE_VOLUME,
  CREDENTIAL_BUNDLE,
  INIT_CONTAINER,
  PROXY_CONTAINER,
  STATE_DIR,
  STATE_VOLUME,
  TOKEN_DIR,
  TOKEN_VOLUME,
} from '../names.ts'
import { PORTS, PROXY_UID } from '../ports.ts'
import type { PodOptions } from './annotations.ts'
import type { ProxySettings } from './settings.ts'

export type SidecarImage = {
  readonly image: string
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never'
}

/** The variable that holds the settings. */
export const CONFIG_VARIABLE = 'POSTERN_CONFIG'

/** Long enough for a first certificate on a busy cluster; the kubelet then restarts the sidecar. */
const STARTUP_SECONDS = 600

const VOLUMES: readonly V1Volume[] = [
  { name: STATE_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '8Mi' } },
  {
    name: TOKEN_VOLUME,
    projected: {
      defaultMode: 0o644,
      sources: [
        { serviceAccountToken: { path: 'token', expirationSeconds: 3600 } },
        { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
      ],
    },
  },
]

/** The files of two generations, however long the chain and however many the roots. */
const CERT_FILES: V1Volume = { name: CERT_FILES_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '4Mi' } }

/** The kubelet makes the key, and asks the signer (KEP-4317). One file, so that key and chain are always of one another. */
const certificateVolume = (
  { certificateLifetimeSeconds: maxExpirationSeconds }: PodOptions,
  { signerName }: Pick<ProxySettings, 'signerName'>,
): V1Volume => ({
  name: CERTIFICATE_VOLUME,
  projected: {
    defaultMode: 0o644,
    sources: [
      {
        podCertificate: {
          signerName,
          keyType: 'ECDSAP256',
          maxExpirationSeconds,
          credentialBundlePath: CREDENTIAL_BUNDLE,
        },
      },
    ],
  },
})

export const volumesFor = (
  options: PodOptions,
  settings: Pick<ProxySettings, 'signerName'>,
): readonly V1Volume[] => [
  ...VOLUMES,
  ...(options.certFiles.length > 0 ? [CERT_FILES] : []),
  ...(options.certificateSource === 'pod-certificate' ? [certificateVolume(options, settings)] : []),
]

/** Writes the nftables rules and proves them: the only moment at which anything of ours is root. */
export function initContainer(image: SidecarImage, settings: ProxySettings): V1Container {
  return {
    name: INIT_CONTAINER,
    ...image,
    args: ['init'],
    env: environment(settings),
    resources: { requests: { cpu: '10m', memory: '32Mi' }, limits: { memory: '128Mi' } },
    securityContext: {
      ...LOCKED_DOWN,
      // nft needs real root with this one capability; a non-root user with it was refused by the kernel.
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
      runAsUser: 0,
      runAsGroup: 0,
      runAsNonRoot: false,
    },
    volumeMounts: [{ name: STATE_VOLUME, mountPath: STATE_DIR }],
  }
}

/** `restartPolicy: Always` makes it a native sidecar: up before every other container, gone after them. */
export function proxyContainer(
  image: SidecarImage,
  settings: ProxySettings,
  options: PodOptions,
): V1Container {
  const { certificateSource, certificateVolume: named, certFiles } = options
  const volume = certificateSource === 'pod-certificate' ? CERTIFICATE_VOLUME : named
  return {
    name: PROXY_CONTAINER,
    ...image,
    args: ['run'],
    restartPolicy: 'Always',
    env: environment(settings),
    ports: [
      { name: 'postern-tunnel', containerPort: PORTS.tunnel, protocol: 'TCP' },
      { name: 'postern-status', containerPort: PORTS.status, protocol: 'TCP' },
    ],
    startupProbe: httpProbe(PORTS.startup, settings.startupPath, {
      periodSeconds: 1,
      failureThreshold: STARTUP_SECONDS,
    }),
    readinessProbe: httpProbe(PORTS.status, '/readyz', { periodSeconds: 2, failureThreshold: 3 }),
    livenessProbe: httpProbe(PORTS.status, '/healthz', { periodSeconds: 10, failureThreshold: 3 }),
    resources: {
      requests: { cpu: options.proxyCpuRequest, memory: options.proxyMemoryRequest },
      limits: { memory: options.proxyMemoryLimit },
    },
    securityContext: {
      ...LOCKED_DOWN,
      capabilities: { drop: ['ALL'] },
      runAsUser: PROXY_UID,
      runAsGroup: PROXY_UID,
      runAsNonRoot: true,
    },
    volumeMounts: [
      { name: STATE_VOLUME, mountPath: STATE_DIR },
      { name: TOKEN_VOLUME, mountPath: TOKEN_DIR, readOnly: true },
      ...(volume === undefined ? [] : [{ name: volume, mountPath: CERTIFICATE_DIR, readOnly: true }]),
      ...(certFiles.length > 0 ? [{ name: CERT_FILES_VOLUME, mountPath: CERT_FILES_DIR }] : []),
    ],
  }
}

const LOCKED_DOWN = {
  allowPrivilegeEscalation: false,
  privileged: false,
  readOnlyRootFilesystem: true,
  seccompProfile: { type: 'RuntimeDefault' },
} as const

const httpProbe = (
  port: number,
  path: string,
  { periodSeconds, failureThreshold }: { periodSeconds: number; failureThreshold: number },
) => ({
  httpGet: { port, path, scheme: 'HTTP' },
  periodSeconds,
  failureThreshold,
  timeoutSeconds: 3,
  successThreshold: 1,
})

function environment(settings: ProxySettings): V1EnvVar[] {
  const field = (name: string, fieldPath: string): V1EnvVar => ({
    name,
    valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } },
  })
  return [
    { name: CONFIG_VARIABLE, value: settingsText(settings) },
    field('POSTERN_POD_NAME', 'metadata.name'),
    field('POSTERN_POD_NAMESPACE', 'metadata.namespace'),
    field('POSTERN_POD_UID', 'metadata.uid'),
    field('POSTERN_POD_IPS', 'status.podIPs'),
    field('POSTERN_NODE_IP', 'status.hostIP'),
    field('POSTERN_SERVICE_ACCOUNT', 'spec.serviceAccountName'),
  ]
}

/** The kubelet expands `$(NAME)` in values, so no dollar sign may stand in the text. */
export const settingsText = (settings: ProxySettings): string =>
  JSON.stringify(settings).replaceAll('$', '\\u0024')
