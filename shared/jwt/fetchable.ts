// Where keys may be fetched from. Whoever may write policy of a namespace chooses the URL, and the sidecar asks from inside of a
// pod: what is at the pod itself or at its node alone (loopback, link-local with the cloud's metadata) is out of reach, as a
// literal and as what a name leads to. Elsewhere only https with a certificate for the name is believed, and no answer is shown.
import { type Cidr, canonicalAddress, cidrsContain, parseCidr } from '../addresses.ts'

const OUT_OF_REACH = cidrsContain(
  ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3', '::/127', 'fe80::/10', 'ff00::/8']
    .map(parseCidr)
    .filter((cidr): cidr is Cidr => cidr !== undefined),
)

export function isOutOfReach(address: string): boolean {
  const canonical = canonicalAddress(address)
  return canonical === undefined || OUT_OF_REACH(canonical)
}

const MAX_URL = 2048

export function isKeyUrl(text: string): boolean {
  const url = text.length <= MAX_URL ? URL.parse(text) : null
  if (url?.protocol !== 'https:' || url.username !== '' || url.password !== '' || text.includes('#'))
    return false
  const host = url.hostname.replace(/^\[|\]$|\.$/g, '')
  if (host === 'localhost' || host.endsWith('.localhost')) return false
  return canonicalAddress(host) === undefined || !isOutOfReach(host)
}
