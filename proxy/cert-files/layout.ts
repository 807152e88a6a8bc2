// What stands in the files of `postern.dev/cert-files`, as a pure function of the sidecar's certificate and trust bundle;
// and what files that are there already hold.
//
// It is the sidecar's own certificate and key, not a second pair (docs/adr/0008): whoever may read the files could ask for
// the same identity with the pod's token, so that a second key would protect nothing and cost every renewal twice.
import { CERT_FILE } from '../../shared/cert-files.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { type Certificate, parseCertificate } from '../../shared/x509/certificate.ts'

/** By their names. */
export type Files = Readonly<Record<string, string>>

/** PEM: the key as PKCS#8, the chain with the leaf first and without the root. */
export type KeyAndChain = { readonly key: string; readonly chain: string }

/** Without a key and a chain only the bundle: the identity was taken back. */
export function layout(own: KeyAndChain | undefined, { roots }: TrustBundle): Files {
  const bundle = { [CERT_FILE.bundle]: joined(roots) }
  if (!own) return bundle
  const [key, chain] = [ended(own.key), ended(own.chain)]
  return { ...bundle, [CERT_FILE.key]: key, [CERT_FILE.chain]: chain, [CERT_FILE.combined]: key + chain }
}

const ended = (pem: string): string => (pem.endsWith('\n') ? pem : `${pem}\n`)
const joined = (pems: readonly string[]): string => pems.map(ended).join('')

export function keyAndChainIn(files: Files): KeyAndChain | undefined {
  const { [CERT_FILE.key]: key, [CERT_FILE.chain]: chain } = files
  return key === undefined || chain === undefined ? undefined : { key, chain }
}

/** PEM, one each. */
export const rootsIn = (files: Files): readonly string[] => splitPem(files[CERT_FILE.bundle] ?? '')

export type Leaf = Pick<Certificate, 'serial' | 'notAfter'>

export function leafIn(files: Files): Leaf | undefined {
  const [leaf] = splitPem(files[CERT_FILE.chain] ?? '')
  if (leaf === undefined) return undefined
  const { serial, notAfter } = parseCertificate(leaf)
  return { serial, notAfter }
}

export function sameFiles(a: Files | undefined, b: Files): boolean {
  if (!a || Object.keys(a).length !== Object.keys(b).length) return false
  return Object.entries(b).every(([name, text]) => a[name] === text)
}
