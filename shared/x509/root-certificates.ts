// Certificates that somebody gives us to trust, as PEM text: each of them whole, and the certificate of a CA, or none is taken.
import { PosternError } from '../errors.ts'
import { splitPem } from '../trust-bundle.ts'
import { parseCertificate } from './certificate.ts'

/** PEM of each. @throws PosternError PSTN_TRUST_INVALID naming what is wrong. */
export function readRoots(text: string): readonly string[] {
  const blocks = splitPem(text)
  const begun = text.split('-----BEGIN ').length - 1
  if (blocks.length === 0) throw invalid('it holds no certificate')
  if (begun !== blocks.length) throw invalid(`of ${begun} PEM blocks ${blocks.length} are whole certificates`)
  return [...new Set(blocks.map(rootPem))]
}

function rootPem(block: string, index: number): string {
  const which = `certificate ${index + 1}`
  try {
    const { isCa, keyUsage, pem } = parseCertificate(block)
    if (isCa && (keyUsage?.has('keyCertSign') ?? true)) return pem
  } catch (cause) {
    throw new PosternError('PSTN_TRUST_INVALID', `${which} cannot be read`, { cause })
  }
  throw invalid(`${which} is no CA certificate`)
}

const invalid = (why: string): PosternError => new PosternError('PSTN_TRUST_INVALID', why)
