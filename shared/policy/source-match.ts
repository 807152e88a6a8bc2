// Who calls: the fields of a source, compiled and matched. What is not known never helps the caller: an identity field,
// `not…` or not, never lets a plaintext peer match ALLOW and always lets it match DENY. Its address is always known.
import { cidrsContain, parseCidr } from '../addresses.ts'
import type { AuthorizationPolicy, SourceMatch } from './model.ts'
import { compileStrings, includes, type StringSet } from './string-set.ts'

/** A peer whose certificate was verified. `own` is absent for peers of other trust domains, and for what is no workload. */
export type KnownCaller = {
  /** The SPIFFE ID without its scheme, as policies write it. */
  readonly principal: string
  readonly trustDomain: string
  /** Of another trust domain than ours. */
  readonly isForeign: boolean
  /** The workload, if it belongs to our trust domain. */
  readonly own?: {
    readonly namespace: string /** `<namespace>/<service account>` */
    readonly account: string
  }
}

type IdentityField = Exclude<keyof SourceMatch, 'ipBlocks' | 'notIpBlocks'>
type Contains = (address: string) => boolean

export type CompiledSource = { readonly [K in IdentityField]?: StringSet } & {
  readonly isInBlocks?: Contains
  readonly isInNotBlocks?: Contains
  /** Whether it asks for more than an address. */
  readonly asksIdentity: boolean
  /** A foreign peer is let in only by a source that says so: `not` our namespace is not enough. */
  readonly namesForeigners: boolean
}

export function compileSource({ ipBlocks, notIpBlocks, ...identity }: SourceMatch): CompiledSource {
  const sets = Object.entries(identity).map(([field, values]) => [field, compileStrings(values)])
  return {
    ...Object.fromEntries(sets),
    ...(ipBlocks && { isInBlocks: compileBlocks(ipBlocks) }),
    ...(notIpBlocks && { isInNotBlocks: compileBlocks(notIpBlocks) }),
    asksIdentity: sets.length > 0,
    namesForeigners: identity.principals !== undefined || identity.trustDomains !== undefined,
  }
}

export function compileBlocks(blocks: readonly string[]): Contains {
  return cidrsContain(blocks.map(parseCidr).filter(cidr => cidr !== undefined))
}

/** `caller` is undefined where it is not known who calls. */
export function sourceMatches(
  source: CompiledSource,
  action: AuthorizationPolicy['action'],
  caller: KnownCaller | undefined,
  address: string,
): boolean {
  if (source.isInBlocks && !source.isInBlocks(address)) return false
  if (source.isInNotBlocks?.(address)) return false
  if (caller === undefined) return action === 'DENY' || !source.asksIdentity
  if (action === 'ALLOW' && caller.own === undefined && !source.namesForeigners) return false
  return callerMatches(source, caller)
}

function callerMatches(source: CompiledSource, caller: KnownCaller): boolean {
  const { principal, trustDomain } = caller
  const { principals, notPrincipals, trustDomains, notTrustDomains } = source
  if (principals && !includes(principals, principal)) return false
  if (notPrincipals && includes(notPrincipals, principal)) return false
  if (trustDomains && !includes(trustDomains, trustDomain)) return false
  if (notTrustDomains && includes(notTrustDomains, trustDomain)) return false
  return workloadMatches(source, caller)
}

/** Namespaces and service accounts are those of our own trust domain: a foreign peer is in none of them. */
function workloadMatches(source: CompiledSource, { own }: KnownCaller): boolean {
  const { namespaces, notNamespaces, serviceAccounts, notServiceAccounts } = source
  if (namespaces && !(own && includes(namespaces, own.namespace))) return false
  if (notNamespaces && own && includes(notNamespaces, own.namespace)) return false
  if (serviceAccounts && !(own && includes(serviceAccounts, own.account))) return false
  return !(notServiceAccounts && own && includes(notServiceAccounts, own.account))
}
