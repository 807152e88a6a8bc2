// The one table of what users may write on pods (annotations) and namespaces (labels), and its parser to typed
// values. docs/annotations.md and the ValidatingAdmissionPolicy in deploy/ repeat the keys; tests compare them.
import {
  bytes,
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
import { isTrustVariable, TRUST_VARIABLES } from './cert-files.ts'
import { PosternError } from './errors.ts'
import { isCidr, isVolumePath } from './injection/settings.ts'
import { LOG_LEVELS } from './log.ts'
import { DOMAIN, INJECT_KEY } from './names.ts'
import type { InboundMode } from './policy/model.ts'
import { didYouMean } from './suggest.ts'

/** One problem: where (the key), what is wrong, what to write instead. */
export type AnnotationProblem = { readonly key: string; readonly reason: string; readonly hint: string }

type Option<T> = {
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

type Table = { readonly [name: string]: Option<unknown> }
type Values<T extends Table> = { readonly [K in keyof T]: Exclude<ReturnType<T[K]['parse']>, undefined> }

/** Those without a default: absent where nothing is written. */
type Unset = 'inject' | 'certificateVolume' | 'certificateFiles' | 'certificateSocket' | 'certFilesHook'

/** What a pod asks for, defaults filled in; `inject` is absent where the pod leaves it to its namespace. */
export type PodOptions = Omit<Values<typeof POD_ANNOTATIONS>, Unset> &
  Partial<Pick<Values<typeof POD_ANNOTATIONS>, Unset>>

export type NamespaceOptions = Values<typeof NAMESPACE_LABELS>

type Texts = { readonly [key: string]: string } | null | undefined

/**
 * Every problem at once; `options` holds the default where a value is wrong. `injected` says that the pod already
 * holds our sidecar, as at a reinvocation of the webhook.
 */
export function readPodOptions(
  annotations: Texts,
  injected: boolean,
): { readonly options: PodOptions; readonly problems: readonly AnnotationProblem[] } {
  const problems = unknownKeys(annotations, POD_ANNOTATIONS, 'annotation', [INJECTED_ANNOTATION])
  if (!injected && annotations?.[INJECTED_ANNOTATION] !== undefined)
    problems.push({
      key: INJECTED_ANNOTATION,
      reason: 'is set by Postern alone, and this pod has no sidecar',
      hint: `write ${INJECT_KEY}: enabled instead`,
    })
  const options = values(annotations, POD_ANNOTATIONS, problems)
  problems.push(...declaredTwice(options), ...sourceProblems(options), ...forNobody(options))
  const { proxyMemoryLimit, proxyMemoryRequest } = options
  if (bytes(proxyMemoryLimit) < bytes(proxyMemoryRequest))
    problems.push({
      key: POD_ANNOTATIONS.proxyMemoryLimit.key,
      reason: `${proxyMemoryLimit} is below the request of ${proxyMemoryRequest}`,
      hint: 'raise the limit or lower the request',
    })
  return { options, problems }
}

/** A port speaks one protocol, and only if its bytes come to the sidecar. */
function declaredTwice({ httpPorts, http2Ports, skipInboundPorts }: PodOptions): AnnotationProblem[] {
  const { httpPorts: http, http2Ports: http2, skipInboundPorts: skipped } = POD_ANNOTATIONS
  const both = (key: string, ports: readonly number[], otherKey: string, others: readonly number[]) =>
    ports
      .filter(port => others.includes(port))
      .map(port => ({ key, reason: `${port} is in ${otherKey} too`, hint: 'leave it in one of them' }))
  return [
    ...both(http2.key, http2Ports, http.key, httpPorts),
    ...both(http.key, httpPorts, skipped.key, skipInboundPorts),
    ...both(http2.key, http2Ports, skipped.key, skipInboundPorts),
  ]
}

/** What belongs to another source was meant for something, and would silently not be done. */
function sourceProblems(options: PodOptions): AnnotationProblem[] {
  const { certificateSource: source, certificateVolume: volume } = POD_ANNOTATIONS
  const chosen = options.certificateSource
  const of = {
    certificateVolume: ['files', 'workload-api'],
    certificateFiles: ['files'],
    certificateSocket: ['workload-api'],
  }
  const stray = (['certificateVolume', 'certificateFiles', 'certificateSocket'] as const)
    .filter(name => options[name] !== undefined && !of[name].includes(chosen))
    .map(name => ({
      key: POD_ANNOTATIONS[name].key,
      reason: `means nothing with ${source.key}: ${chosen}`,
      hint: `write ${source.key}: ${of[name].join(' or ')}, or leave it out`,
    }))
  if (chosen === 'pod-certificate') return [...stray, ...volumeLifetime(options)]
  if (chosen === 'csr' || options.certificateVolume !== undefined) return stray
  return [
    ...stray,
    {
      key: volume.key,
      reason: `is missing, and ${source.key} is ${chosen}`,
      hint: 'name the volume that holds the files or the socket',
    },
  ]
}

/** What the API server would refuse in the volume that injection adds. */
function volumeLifetime({ certificateLifetimeSeconds: seconds }: PodOptions): AnnotationProblem[] {
  if (within(seconds, 3600, 91 * 24 * 3600) !== undefined) return []
  const { certificateLifetimeSeconds: lifetime, certificateSource: source } = POD_ANNOTATIONS
  return [
    {
      key: lifetime.key,
      reason: `Kubernetes gives volumes certificates of 1h to 2184h, and ${source.key} is pod-certificate`,
      hint: 'write a lifetime between these',
    },
  ]
}

/** What goes with files that no container gets. */
function forNobody({ certFiles, certFilesEnv, certFilesHook }: PodOptions): AnnotationProblem[] {
  if (certFiles.length > 0) return []
  const { certFiles: chosen, certFilesEnv: env, certFilesHook: hook } = POD_ANNOTATIONS
  return [...(certFilesEnv.length > 0 ? [env.key] : []), ...(certFilesHook ? [hook.key] : [])].map(key => ({
    key,
    reason: `means nothing without ${chosen.key}`,
    hint: `name the containers in ${chosen.key}, or leave it out`,
  }))
}

/** @throws PosternError PSTN_ANNOTATION_INVALID naming every problem. */
export function parsePodOptions(annotations: Texts, injected = false): PodOptions {
  const { options, problems } = readPodOptions(annotations, injected)
  if (problems.length > 0) throw new PosternError('PSTN_ANNOTATION_INVALID', describeProblems(problems))
  return options
}

/** A namespace is not ours to refuse: problems are for events, and what is wrong counts as not written. */
export function readNamespaceOptions(labels: Texts): {
  readonly options: NamespaceOptions
  readonly problems: readonly AnnotationProblem[]
} {
  const problems = unknownKeys(labels, NAMESPACE_LABELS, 'namespace label', [])
  return { options: values(labels, NAMESPACE_LABELS, problems), problems }
}

export const describeProblems = (problems: readonly AnnotationProblem[]): string =>
  problems.map(({ key, reason, hint }) => `${key}: ${reason}; ${hint}`).join('. ')

/** Each costs a search for what was meant, and nobody reads more. */
const MOST_UNKNOWN = 20

function unknownKeys(texts: Texts, table: Table, what: string, others: string[]): AnnotationProblem[] {
  const known = [...Object.values(table).map(({ key }) => key), ...others]
  return Object.keys(texts ?? {})
    .filter(key => key.startsWith(`${DOMAIN}/`) && !known.includes(key))
    .slice(0, MOST_UNKNOWN)
    .map(key => ({
      key,
      reason: `unknown ${what}${didYouMean(key, known)}`,
      hint: 'docs/annotations.md lists every key',
    }))
}

function values<T extends Table>(texts: Texts, table: T, problems: AnnotationProblem[]): Values<T> {
  const read = Object.entries(table).map(([name, { key, values, fallback, parse }]) => {
    const written = texts?.[key]
    const value = written === undefined ? undefined : parse(written.trim())
    if (written !== undefined && value === undefined)
      problems.push({ key, reason: `${JSON.stringify(written)} is not valid`, hint: `write ${values}` })
    return [name, value ?? (fallback === undefined ? undefined : parse(fallback))] as const
  })
  // The table's keys and parsers are what Values<T> is made of; Object.entries forgets that.
  return Object.fromEntries(read.filter(([, value]) => value !== undefined)) as Values<T>
}
