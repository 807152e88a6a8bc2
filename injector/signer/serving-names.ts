// The names in a request for a serving certificate: DNS names and IP addresses, each in the one form that clients
// compare. Whatever else a SAN can hold is refused; above all a URI, which would be an identity in the mesh.
import { canonicalAddress } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { contextTag, type DerValue, readInside, TAG } from '../../shared/x509/der.ts'

export type ServingNames = {
  readonly dnsNames: readonly string[]
  /** Canonical. */
  readonly ipAddresses: readonly string[]
}

/** A certificate is sent with every handshake. */
const MAX_NAMES = 100
const DNS = contextTag(2)
const IP = contextTag(7)

/** RFC 5280, 4.2.1.6, by the number of the tag. */
const OTHER_KINDS: Readonly<Record<number, string>> = {
  0: 'other name',
  1: 'e-mail address',
  3: 'X.400 address',
  4: 'directory name',
  5: 'EDI party name',
  6: 'URI',
  8: 'registered ID',
}

export const unservable = (reason: string): PosternError => new PosternError('PSTN_CSR_FAILED', reason)

/** @throws PosternError PSTN_CSR_FAILED; DerError */
export function readServingNames(san: DerValue | undefined): ServingNames {
  const names = san ? readInside(san, TAG.sequence) : []
  if (names.length === 0) throw unservable('it has no DNS name and no IP address (subjectAltName)')
  if (names.length > MAX_NAMES) throw unservable(`it has more than ${MAX_NAMES} names`)
  const other = names.find(({ tag }) => tag !== DNS && tag !== IP)
  if (other) {
    const kind = OTHER_KINDS[other.tag & 0x1f] ?? 'name of an unknown kind'
    throw unservable(`it has a SAN that is neither DNS name nor IP address: ${kind}`)
  }
  const ofKind = (kind: number) => names.filter(({ tag }) => tag === kind).map(({ content }) => content)
  return {
    dnsNames: ofKind(DNS).map(content => checkedDns(content.toString('latin1'))),
    ipAddresses: ofKind(IP).map(readAddress),
  }
}

const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
const DNS_NAME = new RegExp(`^(?:\\*\\.)?${LABEL}(?:\\.${LABEL})*$`, 'i')
const MAX_DNS_LENGTH = 253
/** Our own webhook, as the API server knows it: its certificate is not to be had by a signature of anybody's. */
const OURS = new RegExp(`(?:^|\\.)${SYSTEM_NAMESPACE}(?:\\.svc(?:\\.|$)|$)`, 'i')

function checkedDns(name: string): string {
  const shown = JSON.stringify(name.slice(0, MAX_DNS_LENGTH))
  if (canonicalAddress(name) !== undefined)
    throw unservable(`the DNS name ${shown} is an IP address: ask for it as one`)
  if (name.length > MAX_DNS_LENGTH || !DNS_NAME.test(name)) throw unservable(`${shown} is no DNS name`)
  if (OURS.test(name)) throw unservable(`the DNS name ${shown} is of ${SYSTEM_NAMESPACE}, the injector’s own`)
  return name
}

function readAddress(content: Buffer): string {
  const text =
    content.length === 4
      ? content.join('.')
      : (content.toString('hex').match(/.{4}/g)?.join(':') ?? 'nothing')
  const address = canonicalAddress(text)
  if (address === undefined || (content.length !== 4 && content.length !== 16))
    throw unservable(`an IP address of ${content.length} bytes`)
  return address
}
