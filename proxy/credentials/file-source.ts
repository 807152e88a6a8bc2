// Credentials from files that something else rotates: a CSI driver's, or the kubelet's PodCertificate volumes. Writers swap
// whole directories, rename, or write in place; what counts is what the files hold, and whether it fits together.
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { Offer } from './offer.ts'
import type { Supplier, Supply } from './offered-source.ts'

/** Paths; the same twice for one file that holds both. */
export type CertificateFiles = { readonly key: string; readonly chain: string }

const MAX_FILE_BYTES = 256 * 1024

export function fileSupplier(files: CertificateFiles): Supplier {
  const name = files.key === files.chain ? files.key : `${files.key}, ${files.chain}`
  const read = async (): Promise<Supply> => {
    try {
      return { kind: 'offered', offer: offerIn(await readTogether(files)) }
    } catch (thrown) {
      const { code, message } = asPosternError(thrown, 'PSTN_SOURCE_UNAVAILABLE')
      return { kind: 'failed', error: new PosternError(code, `${name}: ${message}`, { cause: thrown }) }
    }
  }
  return { name, read }
}

type Texts = { readonly key: string; readonly chain: string }

/** How often a key that changes while its chain is read is read again: as often as a writer swaps in a moment. */
const MAX_ATTEMPTS = 3

/** Of one moment, unless the files are swapped ever again meanwhile; a pair that does not fit is refused later. */
async function readTogether({ key, chain }: CertificateFiles): Promise<Texts> {
  let text = await readText(key)
  if (key === chain) return { key: text, chain: text }
  for (let attempt = 1; ; attempt += 1) {
    const texts = { key: text, chain: await readText(chain) }
    text = await readText(key)
    if (text === texts.key || attempt === MAX_ATTEMPTS) return texts
  }
}

/** @throws an error of the file system, or PosternError PSTN_SOURCE_INVALID for what is no file of a sensible size. */
async function readText(path: string): Promise<string> {
  // A FIFO would otherwise hold a thread until somebody writes.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const status = await file.stat()
  if (!status.isFile()) throw invalid(`${path} is no file`)
  if (status.size > MAX_FILE_BYTES) throw invalid(`${path} has ${status.size} bytes`)
  return await file.readFile('latin1')
}

const BEGIN = /-----BEGIN /g
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g
const KEY_LABELS: readonly string[] = ['PRIVATE KEY', 'EC PRIVATE KEY', 'RSA PRIVATE KEY']
const CERTIFICATE = 'CERTIFICATE'

type Block = { readonly label: string; readonly pem: string }

/**
 * Exactly one private key, and every certificate in its order.
 * @throws PosternError PSTN_SOURCE_INVALID; never with anything that stands in the files.
 */
export function offerIn({ key, chain }: Texts): Offer {
  const [privateKey, ...more] = blocksIn(key, 'the key').filter(({ label }) => KEY_LABELS.includes(label))
  if (!privateKey) throw invalid('there is no private key (PEM: PKCS#8, SEC 1 or PKCS#1, not encrypted)')
  if (more.length > 0) throw invalid(`there are ${more.length + 1} private keys`)
  const certificates = blocksIn(chain, 'the chain').filter(({ label }) => label === CERTIFICATE)
  if (certificates.length === 0) throw invalid('there is no certificate (PEM)')
  return { key: privateKey.pem, chain: certificates.map(({ pem }) => pem).join('') }
}

/** A block that has begun and not ended is one that is being written. */
function blocksIn(text: string, what: string): Block[] {
  const blocks = [...text.matchAll(BLOCK)].map(([pem, label = '']) => ({ label, pem: `${pem}\n` }))
  const begun = text.match(BEGIN)?.length ?? 0
  if (begun === blocks.length) return blocks
  throw invalid(`${what} is not whole: ${begun} PEM blocks begin, ${blocks.length} end`)
}

const invalid = (reason: string): PosternError => new PosternError('PSTN_SOURCE_INVALID', reason)
