// OutsideHost: a host outside the mesh, the addresses at which applications dial it, and the TLS that their sidecars speak
// there. Istio writes the same as a ServiceEntry and a DestinationRule.
import { X509Certificate } from 'node:crypto'
import { parseCidr } from '../addresses.ts'
import { canonicalCidr } from '../cidr.ts'
import { splitPem } from '../trust-bundle.ts'
import type { OutsideHostDocument } from './document.ts'
import { OUTSIDE_MODES, type OutsideTls } from './outside-host.ts'
import { readPort } from './read-operation.ts'
import { readSelector } from './read-selector.ts'
import type { Item, Reader } from './reader.ts'

const DNS_NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/
/** The last label of a name is never all digits, so that no address passes. */
const isHost = (text: string): boolean => DNS_NAME.test(text) && !/(^|\.)\d+$/.test(text)
/** RFC 7301: one byte of length. */
const isProtocol = (text: string): boolean => /^[\x21-\x7e]{1,255}$/.test(text)

/** Wider than this is no host: it is a mistake that would take whole networks out of reach. */
const FEWEST_BITS = { ipv4: 8, ipv6: 16 } as const
const MAX_ENTRIES = 256
const MAX_ROOTS = 32

type Origin = { readonly namespace: string; readonly name: string }

/** Undefined if anything was reported. */
export function readOutsideHost(
  reader: Reader,
  spec: Item,
  { namespace, name }: Origin,
): OutsideHostDocument | undefined {
  const fields = reader.mapping(spec, ['selector', 'host', 'addresses', 'ports', 'tls'])
  if (fields === undefined) return undefined
  const field = (key: keyof typeof fields): Item =>
    fields[key] ?? { value: undefined, path: [...spec.path, key] }
  const host = reader.text(
    field('host'),
    isHost,
    'write the DNS name that the certificate must have, in lower case, without a port',
  )
  const addresses = readList(reader, field('addresses'), entry => readAddresses(reader, entry))
  const ports = readList(reader, field('ports'), entry => readPort(reader, entry))
  const tls = readTls(reader, field('tls'))
  const selector = fields.selector && readSelector(reader, fields.selector)
  if (!host || !addresses || !ports || !tls || (fields.selector && !selector)) return undefined
  return {
    kind: 'OutsideHost',
    namespace,
    ...(selector && { selector }),
    outside: {
      name,
      host,
      addresses: [...new Set(addresses)],
      ports: [...new Set(ports)],
      tls,
      features: [],
    },
  }
}

function readList<T>(
  reader: Reader,
  item: Item,
  read: (entry: Item) => T | undefined,
): readonly T[] | undefined {
  if (Array.isArray(item.value) && item.value.length > MAX_ENTRIES) {
    reader.report(item.path, `has more than ${MAX_ENTRIES} entries`, 'write several documents')
    return undefined
  }
  return reader.list(item, 'name at least one', read)
}

function readAddresses(reader: Reader, item: Item): string | undefined {
  const text = reader.text(
    item,
    value => cidrOf(value) !== undefined,
    'write an IP address or a CIDR in canonical form, for example 203.0.113.7 or 2001:db8::/64; names are not resolved',
  )
  const cidr = text === undefined ? undefined : cidrOf(text)
  if (cidr === undefined) return undefined
  const { bits, family } = cidr
  if (bits >= FEWEST_BITS[family]) return `${cidr.network}/${bits}`
  const least = `/${FEWEST_BITS[family]}`
  reader.report(item.path, `${text} is wider than ${least}`, 'write the networks of this host alone')
  return undefined
}

function cidrOf(text: string) {
  const written = text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`
  return canonicalCidr(written) === written ? parseCidr(written) : undefined
}

function readTls(reader: Reader, item: Item): OutsideTls | undefined {
  const fields = reader.mapping(item, ['mode', 'caBundle', 'publicRoots', 'alpn'])
  if (fields === undefined) return undefined
  const mode = reader.oneOf(fields.mode ?? { value: undefined, path: [...item.path, 'mode'] }, OUTSIDE_MODES)
  const trust = readTrust(reader, item, fields, mode === 'MUTUAL')
  const alpn = fields.alpn && readList(reader, fields.alpn, entry => readProtocol(reader, entry))
  if (!mode || !trust || (fields.alpn && !alpn)) return undefined
  return { mode, ...trust, ...(alpn && { alpn }) }
}

const readProtocol = (reader: Reader, item: Item): string | undefined =>
  reader.text(item, isProtocol, 'write an ALPN protocol, for example h2 or http/1.1')

/** Whom to trust is always said: silence must not mean the public web. */
function readTrust(
  reader: Reader,
  tls: Item,
  { caBundle, publicRoots }: { readonly caBundle?: Item; readonly publicRoots?: Item },
  isMutual: boolean,
): Pick<OutsideTls, 'roots'> | undefined {
  if (publicRoots !== undefined) {
    if (publicRoots.value !== true)
      reader.report(publicRoots.path, 'is not true', 'write true, or leave it out')
    else if (caBundle !== undefined)
      reader.report(publicRoots.path, 'stands beside caBundle', 'write one of both')
    else if (isMutual)
      reader.report(
        publicRoots.path,
        'with mode MUTUAL would show this workload’s certificate to any host of the public web',
        'write caBundle, or mode: SIMPLE',
      )
    else return {}
    return undefined
  }
  if (caBundle === undefined) {
    const hint = 'write caBundle with the roots of this host in PEM; or publicRoots: true with mode SIMPLE'
    reader.report(tls.path, 'does not say whom to trust', hint)
    return undefined
  }
  return readRoots(reader, caBundle)
}

export function readRoots(reader: Reader, item: Item): Pick<OutsideTls, 'roots'> | undefined {
  const hint = `write 1 to ${MAX_ROOTS} CA certificates in PEM`
  const text = reader.text(item, value => value.includes('-----BEGIN CERTIFICATE-----'), hint)
  if (text === undefined) return undefined
  const roots = splitPem(text)
  if (text.includes('PRIVATE KEY'))
    reader.report(item.path, 'holds a private key', 'write certificates alone')
  else if (roots.length === 0 || roots.length > MAX_ROOTS)
    reader.report(item.path, `holds ${roots.length} certificates`, hint)
  else if (!roots.every(isCa)) reader.report(item.path, 'holds what is no CA certificate', hint)
  else return { roots }
  return undefined
}

function isCa(pem: string): boolean {
  try {
    return new X509Certificate(pem).ca
  } catch {
    return false
  }
}
