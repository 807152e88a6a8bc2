// Probes and hooks that the kubelet would send to the application itself arrive in plaintext and without an identity,
// so strict mode would refuse them. They are pointed at the sidecar's status port instead, which asks the application
// on the pod's behalf and passes on only whether it succeeded.
import type { V1Container, V1LifecycleHandler, V1Probe } from '@kubernetes/client-node'
import { PosternError } from '../errors.ts'
import { isOwnPort, PORTS } from '../ports.ts'
import { MAX_PROBE_TIMEOUT_SECONDS, type ProbeTarget, type RewrittenProbe } from './settings.ts'

const PROBES = { livenessProbe: 'livez', readinessProbe: 'readyz', startupProbe: 'startupz' } as const
const HOOKS = ['postStart', 'preStop'] as const

export type ProbeContext = {
  /** The pod's random path segment. */
  readonly random: string
  readonly terminationGracePeriodSeconds: number
  /** What an earlier injection of this pod recorded. */
  readonly earlier: readonly RewrittenProbe[]
}

type Rewritten<T> = { readonly value: T; readonly probes: readonly RewrittenProbe[] }

/** @throws PosternError PSTN_INJECT_REFUSED for a probe of a port that has no number or is ours. */
export function rewriteProbes(container: V1Container, context: ProbeContext): Rewritten<V1Container> {
  const probes: RewrittenProbe[] = []
  const value: V1Container = { ...container }
  for (const [field, endpoint] of Object.entries(PROBES) as [keyof typeof PROBES, string][]) {
    const probe = container[field]
    if (!probe) continue
    const rewritten = rewrite(
      probe,
      { container, field, endpoint, timeout: probe.timeoutSeconds ?? 1 },
      context,
    )
    value[field] = rewritten.value
    probes.push(...rewritten.probes)
  }
  const hooks = rewriteHooks(container, context)
  if (container.lifecycle) value.lifecycle = hooks.value
  return { value, probes: [...probes, ...hooks.probes] }
}

function rewriteHooks(
  container: V1Container,
  context: ProbeContext,
): Rewritten<NonNullable<V1Container['lifecycle']>> {
  const probes: RewrittenProbe[] = []
  const value = { ...container.lifecycle }
  for (const hook of HOOKS) {
    const handler = container.lifecycle?.[hook]
    // A hook's tcpSocket is in the API but no kubelet ever ran it: left to fail as it always did.
    if (!handler?.httpGet) continue
    const timeout = hook === 'preStop' ? context.terminationGracePeriodSeconds : MAX_PROBE_TIMEOUT_SECONDS
    const rewritten = rewrite(
      handler,
      { container, field: `lifecycle.${hook}`, endpoint: hook, timeout },
      context,
    )
    value[hook] = rewritten.value
    probes.push(...rewritten.probes)
  }
  return { value, probes }
}

type Place = {
  readonly container: V1Container
  readonly field: string
  readonly endpoint: string
  readonly timeout: number
}

function rewrite<T extends V1Probe | V1LifecycleHandler>(
  handler: T,
  place: Place,
  { random, earlier }: ProbeContext,
): Rewritten<T> {
  const { container, endpoint, timeout } = place
  const path = `/app-health/${random}/${container.name}/${endpoint}`
  const { httpGet } = handler
  const recorded =
    httpGet?.port === PORTS.status && httpGet.path === path && earlier.find(probe => probe.path === path)
  if (recorded) return { value: handler, probes: [recorded] }

  const target = targetOf(handler, place)
  if (!target) return { value: handler, probes: [] }
  const timeoutSeconds = Math.min(Math.max(timeout, 1), MAX_PROBE_TIMEOUT_SECONDS)
  const value = { ...handler, httpGet: { port: PORTS.status, path, scheme: 'HTTP' } }
  if ('tcpSocket' in value) delete value.tcpSocket
  if ('grpc' in value) delete value.grpc
  return { value, probes: [{ path, container: container.name, timeoutSeconds, target }] }
}

/** Undefined: exec, sleep, or a `host` of its own, which the kubelet dials elsewhere than at the pod. */
function targetOf(handler: V1Probe | V1LifecycleHandler, place: Place): ProbeTarget | undefined {
  const { httpGet, tcpSocket } = handler
  if (httpGet && !httpGet.host)
    return {
      kind: 'http',
      port: portNumber(httpGet.port, place),
      path: requestPath(httpGet.path ?? '/'),
      scheme: httpGet.scheme === 'HTTPS' ? 'HTTPS' : 'HTTP',
      headers: (httpGet.httpHeaders ?? []).map(({ name, value }) => ({ name, value })),
    }
  if (tcpSocket && !tcpSocket.host) return { kind: 'tcp', port: portNumber(tcpSocket.port, place) }
  if ('grpc' in handler && handler.grpc)
    return { kind: 'grpc', port: portNumber(handler.grpc.port, place), service: handler.grpc.service ?? '' }
  return undefined
}

/** As the kubelet resolves it: a name of this container's ports, or digits that were written as a string. */
function portNumber(written: number | string, { container, field }: Place): number {
  const named = container.ports?.find(({ name }) => name === written)?.containerPort
  const port = named ?? Number(written)
  const refuse = (why: string) =>
    new PosternError('PSTN_INJECT_REFUSED', `container ${container.name}: ${field}: ${why}`)
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw refuse(`port ${JSON.stringify(written)} is neither a number nor a named port of the container`)
  if (isOwnPort(port)) throw refuse(`port ${port} is one of Postern's own`)
  return port
}

/** What goes into the request line: a leading slash, no fragment, and blanks or other bytes percent-encoded. */
function requestPath(path: string): string {
  const [bare = ''] = path.split('#')
  const encoded = bare.replace(/[^\x21-\x7e]+/gu, encodeURIComponent)
  return encoded.startsWith('/') ? encoded : `/${encoded}`
}
