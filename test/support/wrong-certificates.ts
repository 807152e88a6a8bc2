// Certificates that no peer may be let in with, each with the code that it must be refused with: one table for the
// verifier, for both ends of the tunnel, and for whoever else meets peers.
import {
  ExtendedKeyUsage,
  type Issued,
  type IssueOptions,
  KeyUsageFlags,
  type TestAuthority,
  testAuthority,
} from './certificates.ts'

export type WrongCertificate = readonly [name: string, code: string, leaf: Issued]

const HOUR_MS = 3_600_000
const ELSEWHERE = 'elsewhere.example'
const hence = (hours: number): Date => new Date(Date.now() + hours * HOUR_MS)
const PAST = { notBefore: hence(-2), notAfter: hence(-1) }
const FUTURE = { notBefore: hence(1), notAfter: hence(2) }

const sent = (leaf: Issued, ...more: string[]): Issued => ({ ...leaf, chain: [leaf.chain, ...more].join('') })

/** As if they were of `identity` in the trust domain of `ours`. */
export async function wrongCertificates(
  ours: TestAuthority,
  identity: string,
): Promise<readonly WrongCertificate[]> {
  const forger = await testAuthority(ours.trustDomain)
  const foreign = await testAuthority(ELSEWHERE)
  const forged = (more: IssueOptions = {}) => forger.issue({ identity, ...more })
  const foreignLeaf = await foreign.issue({ identity })
  const honestLeaf = await ours.issue({ identity })
  const expiredIssuer = await ours.intermediate({ notAfter: hence(-0.1) })
  const flawed = (more: IssueOptions) => ours.issue({ identity, ...more })
  return [
    ...refusedAs('PSTN_PEER_UNTRUSTED', {
      'signed by a CA of our name with another key': await forged(),
      'the same with our root appended': sent(await forged(), ours.root),
      'of a foreign trust domain': await foreign.issue({ identity: `spiffe://${ELSEWHERE}/x` }),
      'of our trust domain, signed by another domain’s CA': foreignLeaf,
      'of our trust domain, signed by another domain’s CA, with our root appended': sent(
        foreignLeaf,
        ours.root,
      ),
      'of our trust domain, signed by another domain’s CA, with both roots appended': sent(
        foreignLeaf,
        foreign.root,
        ours.root,
      ),
      'signed by a leaf of ours as if it were a CA': sent(await forged(), honestLeaf.leaf, ours.root),
      'forged and expired': await forged(PAST),
      'forged, expired and with our root appended': sent(await forged(PAST), ours.root),
      'forged and of the future': await forged(FUTURE),
      'forged and without usages': await forged({ extKeyUsage: [] }),
    }),
    ...refusedAs('PSTN_PEER_EXPIRED', {
      expired: await flawed(PAST),
      'with an expired issuer': await expiredIssuer.issue({ identity }),
    }),
    ...refusedAs('PSTN_PEER_NOT_YET_VALID', { 'of the future': await flawed(FUTURE) }),
    ...refusedAs('PSTN_PEER_TRUST_DOMAIN', {
      'of our CA for another trust domain': await flawed({
        identity: `spiffe://${ELSEWHERE}/ns/shop/sa/cart`,
      }),
    }),
    ...refusedAs('PSTN_PEER_ID_INVALID', {
      'without a URI SAN': await flawed({ uris: [], dns: ['cart.shop.svc'] }),
      'with two URI SANs': await flawed({ uris: [identity, `${identity}-2`] }),
      'with a URI SAN that is no SPIFFE ID': await flawed({
        identity: `https://${ours.trustDomain}/ns/shop/sa/cart`,
      }),
    }),
    ...refusedAs('PSTN_PEER_USAGE', {
      'that is a CA': await flawed({
        isCa: true,
        keyUsage: KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign,
      }),
      'without extended key usage': await flawed({ extKeyUsage: [] }),
      'without the client’s extended usage': await flawed({ extKeyUsage: [ExtendedKeyUsage.serverAuth] }),
      'without the server’s extended usage': await flawed({ extKeyUsage: [ExtendedKeyUsage.clientAuth] }),
      'without digital signature': await flawed({ keyUsage: KeyUsageFlags.keyAgreement }),
    }),
  ]
}

const refusedAs = (code: string, leaves: Readonly<Record<string, Issued>>): WrongCertificate[] =>
  Object.entries(leaves).map(([name, leaf]) => [name, code, leaf])
