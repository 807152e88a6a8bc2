// Who must answer where the dialler dials: a pod that the directory named, or a workload of a partner, who is met with that
// partner's roots alone and must be one of those that it may have there.
import { isIP } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import { PosternError } from '../../shared/errors.ts'
import { isExpectedIdentity } from '../../shared/federation/model.ts'
import type { PartnerPlace } from '../../shared/federation/partners.ts'
import type { Expected, Peer, TunnelTls } from './interface.ts'

/** With what they are met. `servername` is absent within our own trust domain. */
export type Shown = { readonly context: SecureContextOptions; readonly servername?: string }

const isPartner = (expected: Expected): expected is PartnerPlace => 'identities' in expected

/** Undefined: our own. */
export const trustDomainOf = (expected: Expected): string | undefined =>
  isPartner(expected) ? expected.trustDomain : undefined

/** Everything that a connection to them has proved: part of the pool's key. */
export const proofOf = (expected: Expected): string =>
  isPartner(expected)
    ? [expected.trustDomain, ...expected.identities].join(' ')
    : `${expected.uid} ${expected.identity}`

/** @throws PosternError PSTN_PEER_TRUST_DOMAIN: a partner no more. PSTN_TLS_FAILED: we have no name to say. */
export function shownTo(expected: Expected, own: TunnelTls): Shown {
  if (!isPartner(expected)) return { context: own.context }
  const shown = own.partners.get(expected.trustDomain)
  if (!shown) throw new PosternError('PSTN_PEER_TRUST_DOMAIN', `${expected.trustDomain} is no partner`)
  if (isIP(shown.servername) === 0) return shown
  // RFC 6066, section 3.
  throw new PosternError(
    'PSTN_TLS_FAILED',
    `our trust domain ${shown.servername} is an IP address, which no SNI may be`,
  )
}

/** @throws PosternError PSTN_PEER_UNEXPECTED */
export function checkAnswerer({ identity }: Peer, expected: Expected, where: string): void {
  const [isMet, who] = isPartner(expected)
    ? [isExpectedIdentity(expected.identities, identity), `one of ${expected.identities.join(', ')}`]
    : [identity === expected.identity, expected.identity]
  if (!isMet) throw new PosternError('PSTN_PEER_UNEXPECTED', `${where} is ${identity}, not ${who}`)
}
