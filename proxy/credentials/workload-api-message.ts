// What one message of the Workload API's FetchX509SVID says to this pod. Every message is the full state: an SVID that is
// no longer in it was taken back, and a message that lacks what is mandatory is discarded (SPIFFE Workload API, sections
// 4.3 to 4.5 and 5.2.1). Nothing of the content is ever in an error: it holds private keys.
import { createPrivateKey } from 'node:crypto'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { contentOf, readInside, TAG } from '../../shared/x509/der.ts'
import { encodePem } from '../../shared/x509/pem.ts'
import type { Offer } from './offer.ts'
import { onlyField, type ProtobufField, readFields } from './protobuf.ts'

/** X509SVIDResponse. Its CRLs and federated bundles are not read: trust is what the injector publishes (docs/adr/0007). */
const RESPONSE = { svids: 1 } as const
/** X509SVID. */
const SVID = { spiffeId: 1, chain: 2, key: 3, bundle: 4 } as const

const MAX_SVIDS = 64
const MAX_CERTIFICATES = 64

type Svid = {
  readonly spiffeId: string
  readonly chain: Buffer
  readonly key: Buffer
  readonly bundle: Buffer
}

/**
 * The SVID of this identity, the first if there are several; undefined if the message has others alone.
 * @throws PosternError PSTN_SOURCE_INVALID: the message is to be discarded.
 */
export function svidFor(identity: SpiffeId, message: Buffer): Offer | undefined {
  try {
    const svids = readFields(message)
      .filter(({ number }) => number === RESPONSE.svids)
      .map(readSvid)
    if (svids.length === 0 || svids.length > MAX_SVIDS) throw new RangeError(`it holds ${svids.length} SVIDs`)
    const own = svids.find(({ spiffeId }) => spiffeId === identity)
    return own && offerOf(own)
  } catch (thrown) {
    const { message: why } = asPosternError(thrown, 'PSTN_SOURCE_INVALID')
    throw new PosternError('PSTN_SOURCE_INVALID', `a message of the Workload API was discarded: ${why}`)
  }
}

function readSvid({ content }: ProtobufField): Svid {
  const fields = readFields(content)
  const mandatory = (name: keyof typeof SVID): Buffer => {
    const field = onlyField(fields, SVID[name])
    if (!field) throw new RangeError(`an SVID without ${name}`)
    return field
  }
  return {
    spiffeId: mandatory('spiffeId').toString('utf8'),
    chain: mandatory('chain'),
    key: mandatory('key'),
    bundle: mandatory('bundle'),
  }
}

const offerOf = ({ chain, key, bundle }: Svid): Offer => ({
  key: keyPem(key),
  chain: certificatePems(chain).join(''),
  bundle: certificatePems(bundle),
})

function keyPem(der: Buffer): string {
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
      .export({ format: 'pem', type: 'pkcs8' })
      .toString()
  } catch {
    throw new RangeError('a key that is not PKCS#8')
  }
}

/** Certificates of ASN.1 DER, one behind the other. Whether each is one is asked later. */
function certificatePems(concatenated: Buffer): string[] {
  const values = readInside(sequenceOf(concatenated), TAG.sequence)
  if (values.length > MAX_CERTIFICATES) throw new RangeError(`more than ${MAX_CERTIFICATES} certificates`)
  return values.map(value => {
    contentOf(value, TAG.sequence)
    return encodePem('CERTIFICATE', value.raw)
  })
}

const sequenceOf = (content: Buffer) => ({ tag: TAG.sequence, content, raw: content })
