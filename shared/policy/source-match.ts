// Who calls: the fields of a source, compiled and matched. What is not known never helps the caller: an identity field,
// `not…` or not, never lets a plaintext peer match ALLOW and always lets it match DENY. Its address is always known.
import { cidrsContain, parseCidr } from '../addresses.ts'
import type { AuthorizationPolicy, HttpRequest, SourceMatch } from './model.ts'
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

type UserField = 'requestPrincipals' | 'notRequestPrincipals'
type IdentityField = Exclude<keyof SourceMatch, 'ipBlocks' | 'notIpBlocks' | UserField>
type Contains = (address: string) => boolean

export type CompiledSource = { readonly [K in IdentityField]?: StringSet } & {
  readonly isInBlocks?: Contains
  readonly isInNotBlocks?: Contains
  readonly users?: CompiledUsers
  /** Whether it asks for more than an address and an end user. */
  readonly asksIdentity: boolean
  /** A foreign peer is let in only by a source that says so: `not` our namespace is not enough. */
  readonly namesForeigners: boolean
}

/** Principals of end users. */
export type CompiledUsers = {
  readonly wanted: StringSet | undefined
  readonly unwanted: StringSet | undefined
}

export function compileSource(source: SourceMatch): CompiledSource {
  const { ipBlocks, notIpBlocks, requestPrincipals, notRequestPrincipals, ...identity } = source
  const sets = Object.entries(identity).map(([field, values]) => [field, compileStrings(values)])
  return {
    ...Object.fromEntries(sets),
    ...(ipBlocks && { isInBlocks: compileBlocks(ipBlocks) }),
    ...(notIpBlocks && { isInNotBlocks: compileBlocks(notIpBlocks) }),
    ...((requestPrincipals || notRequestPrincipals) && {
      users: {
        wanted: requestPrincipals && compileStrings(requestPrincipals),
        unwanted: notRequestPrincipals && compileStrings(notRequestPrincipals),
      },
    }),
    asksIdentity: sets.length > 0,
    namesForeigners: identity.principals !== undefined || identity.trustDomains !== undefined,
  }
}

export function compileBlocks(blocks: readonly string[]): Contains {
  return cidrsContain(blocks.map(parseCidr).filter(cidr => cidr !== undefined))
}

/** What a source is asked of. `caller` is undefined where it is not known who calls. */
export type AskedSource = {
  readonly action: AuthorizationPolicy['action']
  readonly caller: KnownCaller | undefined
  readonly request: { readonly caller: { readonly address: string }; readonly http?: HttpRequest | undefined }
  /** Of all requests on a connection, the one that fares best. */
  readonly anyRequest: boolean
}

export function sourceMatches(source: CompiledSource, asked: AskedSource): boolean {
  const { action, caller, request } = asked
  const { address } = request.caller
  if (source.isInBlocks && !source.isInBlocks(address)) return false
  if (source.isInNotBlocks?.(address)) return false
  if (source.users && !userMatches(source.users, asked)) return false
  if (caller === undefined) return action === 'DENY' || !source.asksIdentity
  if (action === 'ALLOW' && caller.own === undefined && !source.namesForeigners) return false
  return callerMatches(source, caller)
}

/** Without a token, or of one that names nobody, the user is not known: leaving it out helps nobody. */
export function userMatches(
  { wanted, unwanted }: CompiledUsers,
  { action, request: { http }, anyRequest }: AskedSource,
): boolean {
  if (anyRequest) return action === 'ALLOW'
  const principal = http?.user?.principal
  if (principal === undefined) return action === 'DENY'
  return (wanted === undefined || includes(wanted, principal)) && !(unwanted && includes(unwanted, principal))
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
