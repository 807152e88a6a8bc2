// A partner's trust bundle, as whoever is to be believed about it wrote it: read, and refused where taking it would be an
// accident. What it may do is bounded elsewhere: it vouches for its own trust domain alone.
import type { KeyObject } from 'node:crypto'
import { asPosternError, PosternError } from '../errors.ts'
import { readSpiffeBundle, type SpiffeBundle } from '../spiffe-bundle.ts'
import { trustDomainNamedBy } from '../spiffe-id.ts'
import { parseCertificate } from '../x509/certificate.ts'

/** All partners' bundles are in one ConfigMap, which holds 1 MiB. */
const MAX_BUNDLE_PEM = 32 * 1024
/** Each of them is parsed, here, at every replica and in every sidecar. */
const MAX_BUNDLE_ROOTS = 64

const RSA_BITS = { least: 2048, most: 8192 } as const
const MAX_EXPONENT = 2n ** 32n

/** @throws PosternError PSTN_PARTNER_INVALID */
export function readPartnerBundle(text: string, trustDomain: string): SpiffeBundle {
  const { bundle, ignored } = read(text, trustDomain)
  const { roots } = bundle
  if (roots.length === 0) {
    const passed = ignored.length > 0 ? `, ${ignored.length} keys passed over: ${ignored[0]}` : ''
    throw invalid(`the bundle holds no root of X.509-SVIDs${passed}`)
  }
  const { length } = roots.join('')
  if (length > MAX_BUNDLE_PEM)
    throw invalid(`its roots are ${length} bytes of PEM, more than ${MAX_BUNDLE_PEM}`)
  for (const root of roots) {
    const { serial, uriSans, x509 } = parseCertificate(root)
    const flaw = keyFlaw(x509.publicKey)
    if (flaw !== undefined) throw invalid(`root ${serial}: ${flaw}`)
    const named = uriSans.map(trustDomainNamedBy).find(domain => domain !== undefined)
    if (named !== undefined && named !== trustDomain)
      throw invalid(`root ${serial} is of the trust domain ${named}, not ${trustDomain}`)
  }
  return bundle
}

/** Whoever calls as this partner has its roots tried: an RSA key with an exponent of thousands of bits takes milliseconds each time. */
function keyFlaw({ asymmetricKeyDetails = {} }: KeyObject): string | undefined {
  const { modulusLength, publicExponent } = asymmetricKeyDetails
  if (modulusLength === undefined || publicExponent === undefined) return undefined
  if (modulusLength < RSA_BITS.least || modulusLength > RSA_BITS.most)
    return `an RSA key of ${modulusLength} bits; ${RSA_BITS.least} to ${RSA_BITS.most} are taken`
  return publicExponent > MAX_EXPONENT ? 'an RSA key with a public exponent of more than 32 bits' : undefined
}

function read(text: string, trustDomain: string) {
  try {
    return readSpiffeBundle(text, trustDomain, MAX_BUNDLE_ROOTS)
  } catch (cause) {
    throw invalid(asPosternError(cause, 'PSTN_PARTNER_INVALID').message, cause)
  }
}

const invalid = (why: string, cause?: unknown): PosternError =>
  new PosternError('PSTN_PARTNER_INVALID', why, { cause })
