// Decides what a pod gets: the operations that give it a sidecar, or the reason why not. Pure, so that webhook, CLI
// and tests cannot disagree. The wanted pod is built whole and compared with the one at hand; so a pod that was
// injected before (webhooks are called again when others change the pod) is repaired, or left alone.
import type { V1Container, V1Pod, V1PodSpec, V1Volume } from '@kubernetes/client-node'
import { asPosternError, type Code } from '../errors.ts'
import { CREDENTIAL_BUNDLE, INJECT_KEY, PROXY_CONTAINER, SYSTEM_NAMESPACE } from '../names.ts'
import type { Protocol, Protocols } from '../protocol.ts'
import { INJECTED_ANNOTATION, type PodOptions } from './annotations.ts'
import { certFilesConflicts, withCertFiles } from './cert-files.ts'
import { conflicts, isOurContainer, missingVolume, unservable } from './conflicts.ts'
import { diff, type JsonPatchOperation } from './json-patch.ts'
import { parsePodOptions } from './pod-options.ts'
import { rewriteProbes } from './probes.ts'
import { reconcile } from './reconcile.ts'
import { type CertificateSource, type ProxySettings, parseProxySettings } from './settings.ts'
import {
  CONFIG_VARIABLE,
  initContainer,
  proxyContainer,
  type SidecarImage,
  settingsText,
  volumesFor,
} from './template.ts'

export type InjectionContext = {
  /** Which webhook entry was called: that of the pod's annotation, or of its namespace's label. */
  readonly optIn: 'pod' | 'namespace'
  readonly mesh: Pick<ProxySettings, 'trustDomain' | 'signerName' | 'controlAddress' | 'injectorIdentity'>
  readonly sidecar: SidecarImage
  readonly version: string
  /** Unguessable, of A-Z a-z 0-9 - _ : part of the paths that the kubelet asks. */
  readonly random: string
}

export type Injection =
  /** Empty where the pod already is as it should be. */
  | { readonly kind: 'patch'; readonly patch: readonly JsonPatchOperation[] }
  | { readonly kind: 'skip'; readonly reason: string }
  | { readonly kind: 'refuse'; readonly code: Code; readonly message: string }

/** Namespaces whose pods never get a sidecar: they must start before us. */
const EXCLUDED: readonly string[] = ['kube-system', SYSTEM_NAMESPACE]
const MIRROR_POD = 'kubernetes.io/config.mirror'
/** One environment variable may hold 128 KiB on Linux (MAX_ARG_STRLEN). */
const MAX_SETTINGS_BYTES = 120 * 1024

export function inject(pod: V1Pod, namespace: string, context: InjectionContext): Injection {
  const annotations = pod.metadata?.annotations ?? {}
  if (EXCLUDED.includes(namespace)) return skip(`namespace ${namespace} is never injected`)
  if (annotations[MIRROR_POD] !== undefined) return skip('a static pod cannot be changed')
  try {
    const earlier = earlierSettings(pod)
    const options = parsePodOptions(annotations, earlier !== undefined)
    if (options.inject === 'disabled') return skip(`${INJECT_KEY}: disabled`)
    if (options.inject !== 'enabled' && context.optIn === 'pod') return skip('the pod does not opt in')

    const never = unservable(pod)
    if (never !== undefined) return options.inject === 'enabled' ? refuse(never) : skip(never)
    const injected = earlier !== undefined
    const problems = [
      ...conflicts(pod, injected),
      ...missingVolume(pod, options),
      ...certFilesConflicts(pod, options, injected),
    ]
    if (problems.length > 0) return refuse(problems.join('. '))
    return { kind: 'patch', patch: diff(pod, wanted(pod, options, context, earlier)) }
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_INJECT_REFUSED')
    return { kind: 'refuse', code: code === 'PSTN_CONFIG_INVALID' ? 'PSTN_INJECT_REFUSED' : code, message }
  }
}

const skip = (reason: string): Injection => ({ kind: 'skip', reason })

const refuse = (message: string): Injection => ({ kind: 'refuse', code: 'PSTN_INJECT_REFUSED', message })

/** The settings of an earlier injection of this very pod, or of the one that it was copied from. */
function earlierSettings(pod: V1Pod): ProxySettings | undefined {
  if (pod.metadata?.annotations?.[INJECTED_ANNOTATION] === undefined) return undefined
  const proxy = pod.spec?.initContainers?.find(({ name }) => name === PROXY_CONTAINER)
  const text = proxy?.env?.find(({ name }) => name === CONFIG_VARIABLE)?.value
  try {
    return text === undefined ? undefined : parseProxySettings(text)
  } catch {
    return undefined
  }
}

function wanted(
  pod: V1Pod,
  options: PodOptions,
  context: InjectionContext,
  earlier: ProxySettings | undefined,
): V1Pod {
  const spec: V1PodSpec = pod.spec ?? { containers: [] }
  const random = earlier?.startupPath.split('/').at(-1) ?? context.random
  const probeContext = {
    random,
    terminationGracePeriodSeconds: spec.terminationGracePeriodSeconds ?? 30,
    earlier: earlier?.probes ?? [],
  }
  const ours = spec.initContainers?.filter(isOurContainer) ?? []
  const prepared = (container: V1Container) => rewriteProbes(withCertFiles(container, options), probeContext)
  const initContainers = (spec.initContainers ?? [])
    .filter(container => !isOurContainer(container))
    .map(prepared)
  const containers = spec.containers?.map(prepared)
  const settings = settingsOf(options, context, {
    random,
    probes: [...initContainers, ...(containers ?? [])].flatMap(({ probes }) => probes),
  })
  const injected = [
    initContainer(context.sidecar, settings),
    proxyContainer(context.sidecar, settings, options),
  ].map(template =>
    reconcile(
      ours.find(({ name }) => name === template.name),
      template,
    ),
  )
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      annotations: { ...pod.metadata?.annotations, [INJECTED_ANNOTATION]: context.version },
    },
    spec: {
      ...spec,
      initContainers: [...injected, ...initContainers.map(({ value }) => value)],
      ...(containers && { containers: containers.map(({ value }): V1Container => value) }),
      volumes: withOurVolumes(spec, volumesFor(options, settings)),
    },
  }
}

/** Ours take the place that they already have: others may have come after them. */
function withOurVolumes({ volumes }: V1PodSpec, ours: readonly V1Volume[]): V1Volume[] {
  const present = volumes ?? []
  const names = present.map(({ name }) => name)
  return [
    ...present.map(volume => ours.find(({ name }) => name === volume.name) ?? volume),
    ...ours.filter(({ name }) => !names.includes(name)),
  ]
}

/** @throws PosternError PSTN_CONFIG_INVALID if the sidecar would refuse them: better now than in a crash loop. */
function settingsOf(
  options: PodOptions,
  { mesh }: InjectionContext,
  { random, probes }: { random: string; probes: ProxySettings['probes'] },
): ProxySettings {
  const protocols = declaredProtocols(options)
  const certificateSource = chosenSource(options)
  const settings: ProxySettings = {
    ...mesh,
    logLevel: options.logLevel,
    outbound: options.outbound,
    certificateLifetimeSeconds: options.certificateLifetimeSeconds,
    ...(certificateSource && { certificateSource }),
    ...(options.certFiles.length > 0 && {
      certFiles: { ...(options.certFilesHook && { hook: options.certFilesHook }) },
    }),
    drainSeconds: options.drainSeconds,
    skipInboundPorts: options.skipInboundPorts,
    ...(Object.keys(protocols).length > 0 && { protocols }),
    skipOutboundPorts: options.skipOutboundPorts,
    skipOutboundCidrs: options.skipOutboundCidrs,
    udp: options.udp,
    startupPath: `/startup/${random}`,
    probes,
  }
  const text = settingsText(settings)
  if (Buffer.byteLength(text) > MAX_SETTINGS_BYTES)
    throw new RangeError(`the probes and annotations need more than ${MAX_SETTINGS_BYTES} bytes of settings`)
  return parseProxySettings(text)
}

function chosenSource(options: PodOptions): CertificateSource | undefined {
  switch (options.certificateSource) {
    case 'csr':
      return undefined
    case 'files':
      return { kind: 'files', ...(options.certificateFiles ?? { key: 'tls.key', chain: 'tls.crt' }) }
    case 'pod-certificate':
      return { kind: 'files', key: CREDENTIAL_BUNDLE, chain: CREDENTIAL_BUNDLE }
    case 'workload-api':
      return { kind: 'workload-api', socket: options.certificateSocket ?? 'spire-agent.sock' }
  }
}

function declaredProtocols({ httpPorts, http2Ports }: PodOptions): Protocols {
  const protocols: { [port: string]: Protocol } = {}
  for (const port of httpPorts) protocols[port] = 'http1'
  for (const port of http2Ports) protocols[port] = 'http2'
  return protocols
}
