// What a pod asks for, or everything that is wrong with its annotations: each value by the table, and what two of them say
// together.
import { PosternError } from '../errors.ts'
import { DOMAIN, INJECT_KEY } from '../names.ts'
import { didYouMean } from '../suggest.ts'
import { bytes, within } from './annotation-values.ts'
import { INJECTED_ANNOTATION, type Option, POD_ANNOTATIONS, type PodOptions } from './annotations.ts'

/** One problem: where (the key), what is wrong, what to write instead. */
type AnnotationProblem = { readonly key: string; readonly reason: string; readonly hint: string }

type Annotations = { readonly [key: string]: string } | null | undefined

/**
 * Every problem at once; `options` holds the default where a value is wrong. `injected` says that the pod already
 * holds our sidecar, as at a reinvocation of the webhook.
 */
export function readPodOptions(
  annotations: Annotations,
  injected: boolean,
): { readonly options: PodOptions; readonly problems: readonly AnnotationProblem[] } {
  const problems = unknownKeys(annotations)
  if (!injected && annotations?.[INJECTED_ANNOTATION] !== undefined)
    problems.push({
      key: INJECTED_ANNOTATION,
      reason: 'is set by Postern alone, and this pod has no sidecar',
      hint: `write ${INJECT_KEY}: enabled instead`,
    })
  const options = values(annotations, problems)
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
export function parsePodOptions(annotations: Annotations, injected = false): PodOptions {
  const { options, problems } = readPodOptions(annotations, injected)
  if (problems.length > 0) throw new PosternError('PSTN_ANNOTATION_INVALID', describeProblems(problems))
  return options
}

const describeProblems = (problems: readonly AnnotationProblem[]): string =>
  problems.map(({ key, reason, hint }) => `${key}: ${reason}; ${hint}`).join('. ')

/** Each costs a search for what was meant, and nobody reads more. */
const MOST_UNKNOWN = 20

function unknownKeys(annotations: Annotations): AnnotationProblem[] {
  const known = [...Object.values(POD_ANNOTATIONS).map(({ key }) => key), INJECTED_ANNOTATION]
  return Object.keys(annotations ?? {})
    .filter(key => key.startsWith(`${DOMAIN}/`) && !known.includes(key))
    .slice(0, MOST_UNKNOWN)
    .map(key => ({
      key,
      reason: `unknown annotation${didYouMean(key, known)}`,
      hint: 'docs/annotations.md lists every key',
    }))
}

function values(annotations: Annotations, problems: AnnotationProblem[]): PodOptions {
  const table: { readonly [name: string]: Option<unknown> } = POD_ANNOTATIONS
  const read = Object.entries(table).map(([name, { key, values, fallback, parse }]) => {
    const written = annotations?.[key]
    const value = written === undefined ? undefined : parse(written.trim())
    if (written !== undefined && value === undefined)
      problems.push({ key, reason: `${JSON.stringify(written)} is not valid`, hint: `write ${values}` })
    return [name, value ?? (fallback === undefined ? undefined : parse(fallback))] as const
  })
  // The table's keys and parsers are what PodOptions is made of; Object.entries forgets that.
  return Object.fromEntries(read.filter(([, value]) => value !== undefined)) as PodOptions
}
