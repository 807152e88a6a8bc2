// Everything the injector is told at its start, parsed once into one frozen value: its configuration file, the downward
// API and the API server's address. The only place in injector/ that reads the environment.
import { readFileSync } from 'node:fs'
import { type Document, LineCounter, parseDocument } from 'yaml'
import { parseCidr } from '../shared/addresses.ts'
import { integer, listOf, object, oneOf, optional, refuse, text } from '../shared/decode.ts'
import { PosternError } from '../shared/errors.ts'
import { apiServerUrl } from '../shared/kube/in-cluster.ts'
import type { KubeEndpoint } from '../shared/kube/rest.ts'
import { LOG_LEVELS, type LogLevel } from '../shared/log.ts'
import { DOMAIN, INJECTOR_NAME, SYSTEM_NAMESPACE, WORKLOAD_SIGNER } from '../shared/names.ts'
import type { InboundMode, PolicySet } from '../shared/policy/model.ts'
import { ADMIN_PORT, INJECTOR_PORTS } from '../shared/ports.ts'
import { isTrustDomain } from '../shared/spiffe-id.ts'
import { didYouMean } from '../shared/suggest.ts'
import { isOurs } from './signer/outside.ts'

/** The configuration file, every key of which may be left out. */
export type Settings = {
  readonly trustDomain: string
  /** Ours, or another's outside our domain. */
  readonly signerName: string
  /** Whom another signer's certificates are verified with; also while the mesh comes from it, or goes to it. */
  readonly trustRootsFile?: string
  /** What the cluster’s DNS has its Services’ names end with. */
  readonly clusterDomain: string
  /** The signer issues no longer than this, whatever a sidecar asks for. With less than ten seconds a pod’s names for requests run out. */
  readonly maxLeafLifetimeSeconds: number
  /** The same for the serving certificates that people approve. */
  readonly maxServingLifetimeSeconds: number
  /** What holds where no PeerAuthentication and no namespace label says otherwise. */
  readonly defaultInboundMode: InboundMode
  /** What holds where no ALLOW policy selects a pod. */
  readonly defaultAction: PolicySet['defaultAction']
  readonly sidecarImagePullPolicy: 'Always' | 'IfNotPresent' | 'Never'
  readonly logLevel: LogLevel
  /** What sidecars dial for their control stream. */
  readonly controlAddress: string
  /** CIDRs of pods and Services, where nodes and the ServiceCIDR API do not tell them all. */
  readonly prefixes: readonly string[]
  /** Where this process listens; outside a pod ports may be taken. */
  readonly listenAddress: string
  readonly webhookPort: number
  readonly controlPort: number
  readonly metricsPort: number
  readonly adminPort: number
  readonly bundlePort: number
  /** tls.crt and tls.key of the bundle endpoint: it is served once they are there. */
  readonly bundleCertificateDir: string
  /** How often partners are asked to fetch our bundle. Three of them pass before a next root signs. */
  readonly bundleRefreshHintSeconds: number
}

export type InjectorConfig = Settings & {
  readonly sidecarImage: string
  /** This replica's name. */
  readonly replica: string
  readonly api: KubeEndpoint
}

type Environment = Readonly<Record<string, string | undefined>>

const DEFAULTS: Settings = {
  trustDomain: 'cluster.local',
  signerName: WORKLOAD_SIGNER,
  clusterDomain: 'cluster.local',
  maxLeafLifetimeSeconds: 24 * 3600,
  maxServingLifetimeSeconds: 30 * 24 * 3600,
  defaultInboundMode: 'permissive',
  defaultAction: 'allow',
  sidecarImagePullPolicy: 'IfNotPresent',
  logLevel: 'info',
  controlAddress: `${INJECTOR_NAME}.${SYSTEM_NAMESPACE}.svc:${INJECTOR_PORTS.control}`,
  prefixes: [],
  listenAddress: '::',
  webhookPort: INJECTOR_PORTS.webhook,
  controlPort: INJECTOR_PORTS.control,
  metricsPort: INJECTOR_PORTS.metrics,
  adminPort: ADMIN_PORT,
  bundlePort: INJECTOR_PORTS.bundle,
  bundleCertificateDir: '/etc/postern-bundle-endpoint',
  bundleRefreshHintSeconds: 300,
}

const isDomain = (value: string): boolean =>
  value.length <= 128 && /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/.test(value)

/** Also what a renewal and its retries need. */
const SHORTEST_LEAF_SECONDS = 10

/** Partners of Postern's ask no sooner, whatever they are asked. */
const SHORTEST_HINT_SECONDS = 60

const port = optional(integer(0, 65_535))
const decode = object<Partial<Settings>>({
  trustDomain: optional(text(isTrustDomain, 'a trust domain, such as cluster.local')),
  signerName: optional(text(value => /^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/.test(value), '<domain>/<name>')),
  trustRootsFile: optional(text(value => value.startsWith('/'), 'an absolute path')),
  clusterDomain: optional(text(isDomain, 'a DNS domain, such as cluster.local')),
  maxLeafLifetimeSeconds: optional(integer(SHORTEST_LEAF_SECONDS, 31_536_000)),
  maxServingLifetimeSeconds: optional(integer(1, 31_536_000)),
  defaultInboundMode: optional(oneOf(['strict', 'permissive'])),
  defaultAction: optional(oneOf(['allow', 'deny'])),
  sidecarImagePullPolicy: optional(oneOf(['Always', 'IfNotPresent', 'Never'])),
  logLevel: optional(oneOf(LOG_LEVELS)),
  controlAddress: optional(text(value => /^[^\s/]+:[1-9][0-9]{0,4}$/.test(value), '<host>:<port>')),
  prefixes: optional(listOf(text(value => parseCidr(value) !== undefined, 'a CIDR such as 10.0.0.0/8'))),
  listenAddress: optional(text(value => value !== '', 'an address')),
  webhookPort: port,
  controlPort: port,
  metricsPort: port,
  adminPort: port,
  bundlePort: port,
  bundleCertificateDir: optional(text(value => value.startsWith('/'), 'an absolute path')),
  bundleRefreshHintSeconds: optional(integer(SHORTEST_HINT_SECONDS, 3600)),
})

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount'

/** @throws PosternError PSTN_CONFIG_INVALID naming the file or variable, the key and the reason. */
export function readConfig(env: Environment = process.env): InjectorConfig {
  const file = env.POSTERN_CONFIG_FILE
  const tokenDir = env.POSTERN_TOKEN_DIR ?? SERVICE_ACCOUNT_DIR
  const server = apiServerUrl(env)
  return Object.freeze({
    ...(file === undefined ? DEFAULTS : parseSettings(read(file), file)),
    sidecarImage: required(env, 'POSTERN_SIDECAR_IMAGE'),
    replica: required(env, 'POSTERN_POD_NAME'),
    api: Object.freeze({
      server,
      ...(server.startsWith('https:') && { caFile: `${tokenDir}/ca.crt` }),
      tokenFile: `${tokenDir}/token`,
    }),
  })
}

/** YAML or JSON. @throws PosternError PSTN_CONFIG_INVALID */
export function parseSettings(yaml: string, file: string): Settings {
  const lines = new LineCounter()
  const document = parseDocument(yaml, { lineCounter: lines, prettyErrors: false })
  const [error] = [...document.errors, ...document.warnings]
  if (error) {
    const { line, col } = lines.linePos(error.pos[0])
    throw refuse(`${file}:${line}:${col}`, error.message)
  }
  const value = plain(document, file)
  const known = [...Object.keys(DEFAULTS), 'trustRootsFile']
  const unknown = Object.keys(Object(value)).find(key => !known.includes(key))
  if (unknown !== undefined) throw refuse(`${file}: ${unknown}`, `unknown key${didYouMean(unknown, known)}`)
  const settings = { ...DEFAULTS, ...decode(value, file) }
  checkSigner(settings, file)
  return settings
}

/** The API server lets nobody ask for less, and another signer shortens nothing. */
const SHORTEST_ASKED_SECONDS = 600

function checkSigner({ signerName, trustRootsFile, maxLeafLifetimeSeconds }: Settings, file: string): void {
  const [domain] = signerName.split('/')
  if (isOurs(signerName)) return
  if (domain === DOMAIN)
    throw refuse(`${file}.signerName`, `of ${DOMAIN} only ${WORKLOAD_SIGNER} signs for workloads`)
  if (trustRootsFile === undefined)
    throw refuse(`${file}.trustRootsFile`, `is missing: ${signerName} is another’s, whose roots must be told`)
  if (maxLeafLifetimeSeconds < SHORTEST_ASKED_SECONDS)
    throw refuse(
      `${file}.maxLeafLifetimeSeconds`,
      `must be at least ${SHORTEST_ASKED_SECONDS} with another’s signer`,
    )
}

function plain(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 }) ?? {}
  } catch (cause) {
    throw new PosternError('PSTN_CONFIG_INVALID', `${file}: ${cause}`, { cause })
  }
}

/** For the log; there is no secret in it. */
export const describeConfig = ({ api: { server }, ...rest }: InjectorConfig): object => ({
  ...rest,
  api: server,
})

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new PosternError('PSTN_CONFIG_INVALID', `${path} cannot be read`, { cause })
  }
}

function required(env: Environment, name: string): string {
  const value = env[name]
  if (!value) throw refuse(name, 'is missing')
  return value
}
