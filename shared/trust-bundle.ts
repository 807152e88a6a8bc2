// A trust bundle: the root certificates of one trust domain. Bundles of different domains are never merged
// (SPIFFE Trust Domain and Bundle, section 4: a leaf is validated with the bundle of its own domain only).
import type { FormerRoots } from './former-roots.ts'

export type TrustBundle = {
  readonly trustDomain: string
  /** PEM certificates, one each. Empty: trust nobody of this domain. */
  readonly roots: readonly string[]
}

/** Our own trust domain's, as the injector tells it. Without `former`: nothing was said of those. */
export type OwnTrust = TrustBundle & { readonly former?: FormerRoots }

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** Splits a PEM text into single certificates; text between them is dropped. */
export const splitPem = (text: string): string[] => (text.match(BLOCK) ?? []).map(block => `${block}\n`)
