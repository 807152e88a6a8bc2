// The one table of what users may write on pods (annotations) and namespaces (labels), with the parser of each value.
// docs/annotations.md and the ValidatingAdmissionPolicy in deploy/ repeat the keys; tests compare them.

import { isTrustVariable, TRUST_VARIABLES } from '../cert-files.ts'
import { LOG_LEVELS } from '../log.ts'
import { DOMAIN } from '../names.ts'
import type { InboundMode } from '../policy/model.ts'
import {
  certificateFiles,
  duration,
  hook,
  integer,
  isDnsLabel,
  items,
  memory,
  oneOf,
  ports,
  within,
} from './annotation-values.ts'
import { isCidr, isVolumePath } from './settings.ts'

export type Option<T> = {
  readonly key: string
  /** What may be written, for docs and hints. */
  readonly values: string
  /** What holds when nothing is written, in the same form. */
  readonly fallback?: string
  readonly meaning: string
  /** Undefined: not one of `values`. */
  readonly parse: (text: string) => T | undefined
}

const option = <T>(key: string, rest: Omit<Option<T>, 'key'>): Option<T> => ({
  key: `${DOMAIN}/${key}`,
  ...rest,
})

export const POD_ANNOTATIONS = {
  inject: option('inject', {
    values: 'enabled, disabled',
    meaning: 'Gives the pod a sidecar, or keeps it without one whatever its namespace says.',
    parse: oneOf('enabled', 'disabled'),
  }),
  skipInboundPorts: option('skip-inbound-ports', {
    values: 'ports, for example 9100,9101',
    fallback: '',
    meaning: 'Ports that are reached directly: no mTLS, no policy.',
    parse: ports,
  }),
  skipOutboundPorts: option('skip-outbound-ports', {
    values: 'ports, for example 3306',
    fallback: '',
    meaning: 'Destination ports that are dialled directly.',
    parse: ports,
  }),
  skipOutboundCidrs: option('skip-outbound-cidrs', {
    values: 'CIDRs, for example 169.254.0.0/16,fd00::/8',
    fallback: '',
    meaning: 'Destination addresses that are dialled directly.',
    parse: text => items(text, item => (isCidr(item) ? item : undefined)),
  }),
  httpPorts: option('http-ports', {
    values: 'ports, for example 8080',
    fallback: '',
    meaning: 'The application’s ports that speak HTTP/1.1: each request is authorized. Wins over Services.',
    parse: ports,
  }),
  http2Ports: option('http2-ports', {
    values: 'ports, for example 50051',
    fallback: '',
    meaning: 'The application’s ports that speak HTTP/2 without TLS (h2c, gRPC), in the same way.',
    parse: ports,
  }),
  outbound: option('outbound', {
    values: 'auto, require',
    fallback: 'auto',
    meaning: 'What happens to destinations without a sidecar: plaintext, or refused.',
    parse: oneOf('auto', 'require'),
  }),
  udp: option('udp', {
    values: 'allow, block',
    fallback: 'allow',
    meaning: 'Whether UDP, which no sidecar can protect, may pass.',
    parse: oneOf('allow', 'block'),
  }),
  logLevel: option('log-level', {
    values: LOG_LEVELS.join(', '),
    fallback: 'info',
    meaning: 'The sidecar’s log level.',
    parse: oneOf(...LOG_LEVELS),
  }),
  drainSeconds: option('drain-seconds', {
    values: '0 to 3600',
    fallback: '45',
    meaning: 'How long connections may go on after the pod is told to stop.',
    parse: text => integer(text, 0, 3600),
  }),
  certificateLifetimeSeconds: option('certificate-lifetime', {
    values: 'a duration of at least 10m, for example 24h or 1h30m',
    fallback: '24h',
    meaning:
      'The lifetime that the sidecar asks for; the signer may issue less. With `pod-certificate` 1h to 2184h (91 days).',
    parse: text => within(duration(text), 600, 31_536_000),
  }),
  certificateSource: option('certificate-source', {
    values: 'csr, files, workload-api, pod-certificate',
    fallback: 'csr',
    meaning: 'Where the sidecar’s certificate comes from: [certificates.md](certificates.md).',
    parse: oneOf('csr', 'files', 'workload-api', 'pod-certificate'),
  }),
  certificateVolume: option('certificate-volume', {
    values: 'the name of one of the pod’s volumes',
    meaning: 'With `files` and `workload-api`: the volume of the files, or of the agent’s socket.',
    parse: text => (isDnsLabel(text) ? text : undefined),
  }),
  certificateFiles: option('certificate-files', {
    values: 'paths of key and chain in the volume, for example tls.key,tls.crt, or of one file with both',
    meaning: 'With `files`; tls.key,tls.crt if nothing is said.',
    parse: certificateFiles,
  }),
  certificateSocket: option('certificate-socket', {
    values: 'the path of a Unix socket in the volume, for example spire-agent.sock',
    meaning: 'With `workload-api`; spire-agent.sock if nothing is said.',
    parse: text => (isVolumePath(text) ? text : undefined),
  }),
  certFiles: option('cert-files', {
    values: 'names of containers, for example app',
    fallback: '',
    meaning:
      'Containers that get the pod’s key, certificate and trust bundle as files: [cert-files.md](cert-files.md).',
    parse: text => items(text, item => (isDnsLabel(item) ? item : undefined)),
  }),
  certFilesEnv: option('cert-files-env', {
    values: `of ${Object.keys(TRUST_VARIABLES).join(', ')}`,
    fallback: '',
    meaning: 'With `cert-files`: variables that these containers get with the path of the trust bundle.',
    parse: text => items(text, item => (isTrustVariable(item) ? item : undefined)),
  }),
  certFilesHook: option('cert-files-hook', {
    values: 'a port and a path, for example 8081/reload',
    meaning:
      'With `cert-files`: what the sidecar asks on the pod’s loopback, by POST, when the files have changed.',
    parse: hook,
  }),
  proxyCpuRequest: option('proxy-cpu-request', {
    values: 'a quantity, for example 50m or 0.5',
    fallback: '50m',
    meaning: 'CPU requested for the sidecar. It has no CPU limit.',
    parse: text => (/^(\d+m|\d+(\.\d{1,3})?)$/.test(text) && Number.parseFloat(text) > 0 ? text : undefined),
  }),
  proxyMemoryRequest: option('proxy-memory-request', {
    values: 'a quantity of at least 32Mi, for example 64Mi',
    fallback: '64Mi',
    meaning: 'Memory requested for the sidecar.',
    parse: memory,
  }),
  proxyMemoryLimit: option('proxy-memory-limit', {
    values: 'a quantity of at least 32Mi, for example 256Mi',
    fallback: '256Mi',
    meaning: 'The sidecar’s memory limit; not below the request.',
    parse: memory,
  }),
} as const

/** Written by the webhook on a pod that it gave a sidecar; refused when a user writes it. */
export const INJECTED_ANNOTATION = `${DOMAIN}/injected`

export const NAMESPACE_LABELS = {
  inject: option('inject', {
    values: 'enabled, disabled',
    fallback: 'disabled',
    meaning: 'Gives every pod of the namespace a sidecar; the pod’s annotation wins.',
    parse: oneOf('enabled', 'disabled'),
  }),
  mode: option('mode', {
    values: 'strict, permissive',
    fallback: 'permissive',
    meaning:
      'Whether the namespace’s sidecars refuse plaintext. A PeerAuthentication for the namespace wins.',
    parse: oneOf<InboundMode>('strict', 'permissive'),
  }),
} as const

type Values<T extends { readonly [name: string]: Option<unknown> }> = {
  readonly [K in keyof T]: Exclude<ReturnType<T[K]['parse']>, undefined>
}

/** Those without a default: absent where nothing is written. */
type Unset = 'inject' | 'certificateVolume' | 'certificateFiles' | 'certificateSocket' | 'certFilesHook'

/** What a pod asks for, defaults filled in; `inject` is absent where the pod leaves it to its namespace. */
export type PodOptions = Omit<Values<typeof POD_ANNOTATIONS>, Unset> &
  Partial<Pick<Values<typeof POD_ANNOTATIONS>, Unset>>
