// `postern.dev/cert-files` as injection, sidecar and docs/cert-files.md share it: what the files are called, which
// variables may point at them, and what an application's hook is.
import { isOwnPort } from './ports.ts'

/** The names that kubernetes.io/tls and cert-manager have for them. */
export const CERT_FILE = {
  /** PKCS#8. */
  key: 'tls.key',
  /** The leaf, then the intermediates. */
  chain: 'tls.crt',
  /** The roots of our own trust domain. */
  bundle: 'ca.crt',
  /** Key and chain: one file is read at one moment. */
  combined: 'tls-combined.pem',
} as const

/** Whether a program then trusts these roots beside the public ones, or nothing but them. */
type Effect = 'adds' | 'replaces'

/** Variables that `postern.dev/cert-files-env` may set to the path of the bundle. */
export const TRUST_VARIABLES = {
  SSL_CERT_FILE: 'replaces',
  CURL_CA_BUNDLE: 'replaces',
  REQUESTS_CA_BUNDLE: 'replaces',
  GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: 'replaces',
  NODE_EXTRA_CA_CERTS: 'adds',
  DENO_CERT: 'adds',
} as const satisfies Record<string, Effect>

export type TrustVariable = keyof typeof TRUST_VARIABLES

export const isTrustVariable = (name: string): name is TrustVariable => Object.hasOwn(TRUST_VARIABLES, name)

/** What is asked on the pod's loopback, by POST, once the files have been swapped. */
export type Hook = { readonly port: number; readonly path: string }

export const isHookPort = (port: number): boolean =>
  Number.isInteger(port) && port >= 1 && port <= 65_535 && !isOwnPort(port)

/** A request target without blanks, fragment or authority. */
export const isHookPath = (path: string): boolean => /^\/(?!\/)[\x21-\x22\x24-\x7e]{0,255}$/.test(path)
