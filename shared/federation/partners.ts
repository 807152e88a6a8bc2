// The partners in force, as both ends of the tunnel ask for them: whose roots hold for a trust domain, and who is to answer at an
// address. Of an address in prefixes of several partners the longest one decides; two that are equal would be a guess.
import { isDeepStrictEqual } from 'node:util'
import { type Cidr, cidrsContain, parseCidr } from '../addresses.ts'
import type { TrustBundle } from '../trust-bundle.ts'
import { parseCertificate } from '../x509/certificate.ts'
import { isExpectedIdentity, type Partner } from './model.ts'

/** Who is to answer: a workload of this trust domain that has one of these identities. */
export type PartnerPlace = {
  readonly kind: 'partner'
  readonly trustDomain: string
  readonly identities: readonly string[]
}

/** Equally long prefixes of several partners. */
export type Disputed = { readonly kind: 'disputed'; readonly trustDomains: readonly string[] }

export type Partners = {
  readonly bundles: readonly TrustBundle[]
  bundleOf(trustDomain: string): TrustBundle | undefined
  /** Of a canonical address. Our own prefixes win. */
  placeOf(address: string): PartnerPlace | Disputed | undefined
  /** Whether this identity may answer at this address now. */
  expects(trustDomain: string, identity: string, address: string): boolean
  equals(given: readonly Partner[], own: Own): boolean
}

export type Own = { readonly trustDomain: string; readonly prefixes: readonly string[] }

type Prefix = PartnerPlace & { readonly bits: number; contains(address: string): boolean }

/** What names our own trust domain counts for nothing: nobody else speaks for it. */
export function partnersOf(given: readonly Partner[], own: Own): Partners {
  const partners = given.filter(({ trustDomain }) => trustDomain !== own.trustDomain)
  const bundles = new Map(
    partners.map(({ trustDomain, roots }) => [trustDomain, { trustDomain, roots: usable(roots) }]),
  )
  const prefixes = partners.flatMap(prefixesOf)
  const isOwn = cidrsContain(own.prefixes.map(parseCidr).filter((cidr): cidr is Cidr => cidr !== undefined))
  const placeOf: Partners['placeOf'] = address => {
    const around = prefixes.filter(({ contains }) => contains(address))
    if (around.length === 0 || isOwn(address)) return undefined
    const bits = Math.max(...around.map(prefix => prefix.bits))
    const closest = around.filter(prefix => prefix.bits === bits)
    const trustDomains = [...new Set(closest.map(({ trustDomain }) => trustDomain))]
    const [trustDomain = '', ...others] = trustDomains
    if (others.length > 0) return { kind: 'disputed', trustDomains }
    return { kind: 'partner', trustDomain, identities: closest.flatMap(({ identities }) => identities) }
  }
  return {
    bundles: [...bundles.values()],
    bundleOf: trustDomain => bundles.get(trustDomain),
    placeOf,
    expects: (trustDomain, identity, address) => {
      const place = placeOf(address)
      if (place?.kind !== 'partner' || place.trustDomain !== trustDomain) return false
      return isExpectedIdentity(place.identities, identity)
    },
    equals: (others, theirs) => isDeepStrictEqual(whatCounts(given, own), whatCounts(others, theirs)),
  }
}

/** Our prefixes come and go with nodes: where nobody is dialled they are nothing to look at live connections for. */
const whatCounts = (given: readonly Partner[], own: Own) => {
  const isDialled = given.some(({ destinations }) => destinations.length > 0)
  return [given, own.trustDomain, isDialled ? own.prefixes : []]
}

export const NO_PARTNERS = partnersOf([], { trustDomain: '', prefixes: [] })

function prefixesOf({ trustDomain, destinations }: Partner): Prefix[] {
  return destinations.flatMap(({ cidr, identities }) => {
    const parsed = parseCidr(cidr)
    if (!parsed) return []
    return { kind: 'partner', trustDomain, identities, bits: parsed.bits, contains: cidrsContain([parsed]) }
  })
}

/** All or none: a bundle that is half read would be another one than was meant. Empty: nobody of this domain is trusted. */
function usable(roots: readonly string[]): readonly string[] {
  try {
    for (const root of roots) parseCertificate(root)
    return roots
  } catch {
    return []
  }
}
