// Everything the sidecar is told at its start, parsed once into one frozen value: the injector's settings, the
// downward API and the API server's address. The only place in proxy/ that reads the environment.
import { canonicalAddress } from '../shared/addresses.ts'
import { PosternError } from '../shared/errors.ts'
import { type ProxySettings, parseProxySettings } from '../shared/injection/settings.ts'
import { apiServerUrl } from '../shared/kube/in-cluster.ts'
import type { KubeEndpoint } from '../shared/kube/rest.ts'
import { CERT_FILES_DIR, CERTIFICATE_DIR, STATE_DIR, TOKEN_DIR } from '../shared/names.ts'
import { type SpiffeId, workloadSpiffeId } from '../shared/spiffe-id.ts'

export type ProxyConfig = {
  readonly settings: ProxySettings
  readonly pod: {
    readonly name: string
    readonly namespace: string
    readonly uid: string
    readonly serviceAccount: string
    /** Canonical, in the order of `status.podIPs`. */
    readonly ips: readonly string[]
    readonly nodeIp: string
  }
  /** What this pod's own certificate must say. */
  readonly identity: SpiffeId
  /** Memory-backed, mounted by the sidecar alone. */
  readonly stateDir: string
  /** Where the volume of another certificate source is mounted. */
  readonly certificateDir: string
  /** Where the volume is that the containers of `postern.dev/cert-files` mount too. */
  readonly certFilesDir: string
  /** With files for the roots and the token: the kubelet rewrites both. */
  readonly api: KubeEndpoint
}

type Environment = Readonly<Record<string, string | undefined>>

const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const DNS_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/
const UID = /^[A-Za-z0-9-]{1,64}$/

/** @throws PosternError PSTN_CONFIG_INVALID naming the variable and the reason. */
export function readConfig(env: Environment = process.env): ProxyConfig {
  const settings = parseProxySettings(required(env, 'POSTERN_CONFIG'))
  const namespace = matching(env, 'POSTERN_POD_NAMESPACE', DNS_LABEL)
  const serviceAccount = matching(env, 'POSTERN_SERVICE_ACCOUNT', DNS_NAME)
  const tokenDir = env.POSTERN_TOKEN_DIR ?? TOKEN_DIR
  const server = apiServerUrl(env)
  return Object.freeze({
    settings,
    pod: Object.freeze({
      name: matching(env, 'POSTERN_POD_NAME', DNS_NAME),
      namespace,
      uid: matching(env, 'POSTERN_POD_UID', UID),
      serviceAccount,
      ips: Object.freeze(
        required(env, 'POSTERN_POD_IPS')
          .split(',')
          .map(ip => address('POSTERN_POD_IPS', ip)),
      ),
      nodeIp: address('POSTERN_NODE_IP', required(env, 'POSTERN_NODE_IP')),
    }),
    identity: workloadSpiffeId({ trustDomain: settings.trustDomain, namespace, serviceAccount }),
    stateDir: env.POSTERN_STATE_DIR ?? STATE_DIR,
    certificateDir: env.POSTERN_CERTIFICATE_DIR ?? CERTIFICATE_DIR,
    certFilesDir: env.POSTERN_CERT_FILES_DIR ?? CERT_FILES_DIR,
    api: Object.freeze({
      server,
      ...(server.startsWith('https:') && { caFile: `${tokenDir}/ca.crt` }),
      tokenFile: `${tokenDir}/token`,
    }),
  })
}

/** For the log: everything but the random paths, which only the kubelet may know. */
export function describeConfig({ settings, ...rest }: ProxyConfig): Readonly<Record<string, unknown>> {
  const { startupPath: _, probes, ...loggable } = settings
  return { ...rest, settings: { ...loggable, probes: probes.length } }
}

function required(env: Environment, name: string): string {
  const value = env[name]
  if (!value) throw invalid(name, 'is missing')
  return value
}

function matching(env: Environment, name: string, pattern: RegExp): string {
  const value = required(env, name)
  if (!pattern.test(value)) throw invalid(name, `does not match ${pattern}`)
  return value
}

function address(name: string, text: string): string {
  const canonical = canonicalAddress(text)
  if (canonical === undefined) throw invalid(name, `${JSON.stringify(text)} is no IP address`)
  return canonical
}

const invalid = (name: string, why: string): PosternError =>
  new PosternError('PSTN_CONFIG_INVALID', `${name}: ${why}`)
