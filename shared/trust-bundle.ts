// A trust bundle: the root certificates of one trust domain. Bundles of different domains are never merged
// (SPIFFE Trust Domain and Bundle, section 4: a leaf is validated with the bundle of its own domain only).

export type TrustBundle = {
  readonly trustDomain: string
  /** PEM certificates, one each. Empty: trust nobody of this domain. */
  readonly roots: readonly string[]
}

const BLOCK = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** Splits a PEM text into single certificates; text between them is dropped. */
export const splitPem = (text: string): string[] => (text.match(BLOCK) ?? []).map(block => `${block}\n`)
