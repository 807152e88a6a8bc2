// TrustDomain: a partner's name, where its bundle comes from, and where its workloads are dialled.

import { canonicalCidr } from '../cidr.ts'
import { asPosternError } from '../errors.ts'
import type { Item, Reader } from '../policy/reader.ts'
import { isTrustDomain } from '../spiffe-id.ts'
import { readRoots } from '../x509/root-certificates.ts'
import { readPartnerBundle } from './bundle.ts'
import type { BundleSource, TrustDomainDocument } from './document.ts'
import { type Destination, identityPatternFlaw } from './model.ts'

/** Undefined if anything was reported. */
export function readTrustDomain(
  reader: Reader,
  spec: Item,
  { name, ownTrustDomain }: { readonly name: string; readonly ownTrustDomain: string },
): TrustDomainDocument | undefined {
  const fields = reader.mapping(spec, ['trustDomain', 'bundle', 'destinations'])
  if (fields === undefined) return undefined
  const missing = (field: string): Item => ({ value: undefined, path: [...spec.path, field] })
  const trustDomain = readDomain(reader, fields.trustDomain ?? missing('trustDomain'), ownTrustDomain)
  if (trustDomain === undefined) return undefined
  const source = readBundle(reader, fields.bundle ?? missing('bundle'), trustDomain)
  const destinations = fields.destinations ? readDestinations(reader, fields.destinations, trustDomain) : []
  return source && destinations && { kind: 'TrustDomain', name, trustDomain, source, destinations }
}

function readDomain(reader: Reader, item: Item, ownTrustDomain: string): string | undefined {
  const trustDomain = reader.text(
    item,
    isTrustDomain,
    'write the partner’s trust domain, such as partner.example',
  )
  if (trustDomain !== ownTrustDomain) return trustDomain
  reader.report(
    item.path,
    `${trustDomain} is this mesh’s own trust domain`,
    'its roots are its CA’s; a partner has another name (trustDomain of the injector’s configuration)',
  )
  return undefined
}

function readBundle(reader: Reader, item: Item, trustDomain: string): BundleSource | undefined {
  const fields = reader.mapping(item, ['endpoint', 'jwks'])
  if (fields === undefined) return undefined
  const { endpoint, jwks } = fields
  if ((endpoint === undefined) === (jwks === undefined)) {
    const reason = endpoint ? 'names two sources' : 'names no source'
    reader.report(item.path, reason, 'write either endpoint: {url: https://…} or jwks: |')
    return undefined
  }
  if (endpoint) return readEndpoint(reader, endpoint)
  return jwks && readJwks(reader, jwks, trustDomain)
}

function readEndpoint(reader: Reader, item: Item): BundleSource | undefined {
  const fields = reader.mapping(item, ['url', 'caBundle'])
  if (fields === undefined) return undefined
  const { url: urlItem = { value: undefined, path: [...item.path, 'url'] }, caBundle } = fields
  const url = reader.text(urlItem, isEndpointUrl, 'write an https:// URL without user, password and fragment')
  const roots = caBundle && readCertificates(reader, caBundle)
  if (url === undefined || (caBundle && !roots)) return undefined
  return { kind: 'endpoint', url, ...(roots && { roots }) }
}

/** SPIFFE Federation, 5.2.1.1. */
function isEndpointUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, username, password, hash } = new URL(text)
  return protocol === 'https:' && username === '' && password === '' && hash === ''
}

/** PEM text of CA certificates. */
export function readCertificates(reader: Reader, item: Item): readonly string[] | undefined {
  const text = reader.text(item, () => true, CERTIFICATES)
  if (text === undefined) return undefined
  try {
    return readRoots(text)
  } catch (thrown) {
    reader.report(item.path, asPosternError(thrown, 'PSTN_TRUST_INVALID').message, CERTIFICATES)
    return undefined
  }
}

const CERTIFICATES = 'write the CA’s certificates as PEM: caBundle: |'

function readJwks(reader: Reader, item: Item, trustDomain: string): BundleSource | undefined {
  const hint = 'write the partner’s bundle as it serves it: a JWK Set with use x509-svid, as text (jwks: |)'
  const text = reader.text(item, () => true, hint)
  if (text === undefined) return undefined
  try {
    return { kind: 'inline', roots: readPartnerBundle(text, trustDomain).roots }
  } catch (thrown) {
    reader.report(item.path, asPosternError(thrown, 'PSTN_PARTNER_INVALID').message, hint)
    return undefined
  }
}

function readDestinations(
  reader: Reader,
  item: Item,
  trustDomain: string,
): readonly Destination[] | undefined {
  const destinations = reader.list(item, 'leave it out where no workload of the partner is dialled', entry =>
    readDestination(reader, entry, trustDomain),
  )
  if (destinations === undefined) return undefined
  for (const [index, { cidr }] of destinations.entries()) {
    if (!destinations.slice(0, index).some(before => before.cidr === cidr)) continue
    reader.report([...item.path, index, 'cidr'], 'is written twice', 'put all identities into one entry')
    return undefined
  }
  return destinations
}

function readDestination(reader: Reader, item: Item, trustDomain: string): Destination | undefined {
  const fields = reader.mapping(item, ['cidr', 'identities'])
  if (fields === undefined) return undefined
  const missing = (field: string): Item => ({ value: undefined, path: [...item.path, field] })
  const cidr = readCidr(reader, fields.cidr ?? missing('cidr'))
  const empty = `name who may answer there, or everybody of the partner: spiffe://${trustDomain}/*`
  const identities = reader.list(fields.identities ?? missing('identities'), empty, entry =>
    readIdentity(reader, entry, trustDomain),
  )
  return cidr !== undefined && identities ? { cidr, identities } : undefined
}

function readCidr(reader: Reader, item: Item): string | undefined {
  const { value } = item
  const canonical = typeof value === 'string' ? canonicalCidr(value) : undefined
  const hint = canonical === undefined ? 'write a CIDR such as 10.9.0.0/16' : `write ${canonical}`
  return reader.text(item, text => text === canonical, hint)
}

function readIdentity(reader: Reader, item: Item, trustDomain: string): string | undefined {
  const text = reader.text(item, () => true, IDENTITY)
  const flaw = text === undefined ? undefined : identityPatternFlaw(text, trustDomain)
  if (flaw === undefined) return text
  reader.report(item.path, flaw, IDENTITY)
  return undefined
}

const IDENTITY = 'write a SPIFFE ID of the partner’s trust domain, or one that ends in /*'
