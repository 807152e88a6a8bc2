// What the injector tells one sidecar at injection: the whole of POSTERN_CONFIG. Fixed for the pod's life;
// whatever may change later comes over the control stream.
import { parseCidr } from '../addresses.ts'
import { type Hook, isHookPath, isHookPort } from '../cert-files.ts'
import { type Decode, integer, listOf, object, oneOf, optional, refuse, tagged, text } from '../decode.ts'
import { LOG_LEVELS, type LogLevel } from '../log.ts'
import { decodeProtocols, type Protocols } from '../protocol.ts'
import { isTrustDomain, parseSpiffeId, type SpiffeId } from '../spiffe-id.ts'

export type HttpHeader = { readonly name: string; readonly value: string }

/** What the kubelet would have dialled on the application itself. */
export type ProbeTarget =
  | {
      readonly kind: 'http'
      readonly port: number
      /** With its query. */
      readonly path: string
      readonly scheme: 'HTTP' | 'HTTPS'
      readonly headers: readonly HttpHeader[]
    }
  | { readonly kind: 'tcp'; readonly port: number }
  | { readonly kind: 'grpc'; readonly port: number; readonly service: string }

const PROBE_ENDPOINTS = ['livez', 'readyz', 'startupz', 'postStart', 'preStop'] as const

/** A probe or hook that the kubelet now asks of the status port. */
export type RewrittenProbe = {
  /** On PORTS.status: `/app-health/<random>/<container>/<endpoint>`. */
  readonly path: string
  readonly container: string
  readonly timeoutSeconds: number
  readonly target: ProbeTarget
}

/** Where the sidecar's certificate comes from, if not from the CSR API. Paths are within the volume that the pod names. */
export type CertificateSource =
  /** One path twice: a file with the key and then the chain. */
  | { readonly kind: 'files'; readonly key: string; readonly chain: string }
  | { readonly kind: 'workload-api'; readonly socket: string }

export type ProxySettings = {
  readonly trustDomain: string
  readonly signerName: string
  /** `host:port` of the control stream. */
  readonly controlAddress: string
  /** The only identity that may speak on the control stream. */
  readonly injectorIdentity: SpiffeId
  readonly logLevel: LogLevel
  /** What happens to destinations without a sidecar: plaintext, or refused. */
  readonly outbound: 'auto' | 'require'
  readonly certificateLifetimeSeconds: number
  /** Absent: the CSR API. */
  readonly certificateSource?: CertificateSource
  /** Absent: no container gets the certificate as files. */
  readonly certFiles?: { readonly hook?: Hook }
  readonly drainSeconds: number
  readonly skipInboundPorts: readonly number[]
  /** What the pod's annotations say that its ports speak; for the injector, which knows its Services too. Absent: nothing. */
  readonly protocols?: Protocols
  readonly skipOutboundPorts: readonly number[]
  readonly skipOutboundCidrs: readonly string[]
  readonly udp: 'allow' | 'block'
  /** The start-up probe's path on PORTS.startup; random, so that no application answers it by chance. */
  readonly startupPath: string
  readonly probes: readonly RewrittenProbe[]
}

export const MAX_PROBE_TIMEOUT_SECONDS = 3600

const port = integer(1, 65_535)
const anyText = text(() => true, 'a string')
const timeoutSeconds = integer(1, MAX_PROBE_TIMEOUT_SECONDS)

const PROBE_PATH = new RegExp(`^/app-health/[A-Za-z0-9_-]+/[a-z0-9-]+/(${PROBE_ENDPOINTS.join('|')})$`)

const header = object<HttpHeader>({
  name: text(value => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(value), 'a header name'),
  value: text(value => /^[\t\x20-\x7e\x80-\xff]*$/.test(value), 'a header value'),
})

const probe = object<RewrittenProbe>({
  path: text(value => PROBE_PATH.test(value), '/app-health/<random>/<container>/<endpoint>'),
  container: text(value => value !== '', 'a container name'),
  timeoutSeconds,
  target: tagged<ProbeTarget>({
    http: object({
      kind: oneOf(['http']),
      port,
      path: text(value => /^\/[\x21-\x7e]*$/.test(value), 'a path that begins with / and has no blanks'),
      scheme: oneOf(['HTTP', 'HTTPS']),
      headers: listOf(header),
    }),
    tcp: object({ kind: oneOf(['tcp']), port }),
    grpc: object({ kind: oneOf(['grpc']), port, service: anyText }),
  }),
})

const spiffeId: Decode<SpiffeId> = (value, where) => {
  try {
    return parseSpiffeId(anyText(value, where)).id
  } catch (thrown) {
    throw refuse(where, thrown instanceof Error ? thrown.message : String(thrown))
  }
}

const volumePath = text(
  isVolumePath,
  'a path within a volume, of at most 64 characters, such as certs/tls.key',
)

const certificateSource = tagged<CertificateSource>({
  files: object({ kind: oneOf(['files']), key: volumePath, chain: volumePath }),
  'workload-api': object({ kind: oneOf(['workload-api']), socket: volumePath }),
})

const hookPort: Decode<number> = (value, where) => {
  const number = port(value, where)
  if (!isHookPort(number)) throw refuse(where, 'is one of Postern’s own ports')
  return number
}

const hook = object<Hook>({
  port: hookPort,
  path: text(isHookPath, 'a path of at most 256 characters, without blanks'),
})

const decode = object<ProxySettings>({
  trustDomain: text(isTrustDomain, 'a trust domain'),
  signerName: text(value => /^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/.test(value), '<domain>/<name>'),
  controlAddress: text(isHostPort, '<host>:<port>'),
  injectorIdentity: spiffeId,
  logLevel: oneOf(LOG_LEVELS),
  outbound: oneOf(['auto', 'require']),
  certificateLifetimeSeconds: integer(600, 31_536_000),
  certificateSource: optional(certificateSource),
  certFiles: optional(object<{ hook?: Hook }>({ hook: optional(hook) })),
  drainSeconds: integer(0, 3600),
  skipInboundPorts: listOf(port),
  protocols: optional(decodeProtocols),
  skipOutboundPorts: listOf(port),
  skipOutboundCidrs: listOf(text(isCidr, 'a CIDR such as 10.0.0.0/8')),
  udp: oneOf(['allow', 'block']),
  startupPath: text(value => /^\/[A-Za-z0-9/_-]+$/.test(value), 'a path'),
  probes: listOf(probe),
})

/** @throws PosternError PSTN_CONFIG_INVALID naming the key and the reason. */
export function parseProxySettings(json: string): ProxySettings {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (thrown) {
    throw refuse('POSTERN_CONFIG', `is not JSON: ${thrown instanceof Error ? thrown.message : thrown}`)
  }
  return Object.freeze(decode(value, 'POSTERN_CONFIG'))
}

function isHostPort(value: string): boolean {
  const [, host = '', number = ''] = /^(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})$/.exec(value) ?? []
  return host !== '' && Number(number) > 0 && Number(number) <= 65_535
}

/** Relative, and without a segment that leads out again. */
export function isVolumePath(value: string): boolean {
  const segments = value.split('/')
  return (
    value.length <= 64 &&
    segments.every(segment => /^[A-Za-z0-9._-]+$/.test(segment) && !/^\.\.?$/.test(segment))
  )
}

export function isCidr(value: string): boolean {
  return parseCidr(value) !== undefined
}
