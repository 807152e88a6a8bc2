import t from 'tap'
import type { Code } from '../../../../shared/errors.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { checkSvidLeaf } from '../../../../shared/x509/svid.ts'
import {
  ExtendedKeyUsage,
  type IssueOptions,
  KeyUsageFlags,
  testAuthority,
} from '../../../support/certificates.ts'

const identity = 'spiffe://cluster.local/ns/shop/sa/cart'
const { issue } = await testAuthority('cluster.local')
const now = Date.now()
const HOUR_MS = 3_600_000
const { digitalSignature, keyCertSign, cRLSign, keyEncipherment } = KeyUsageFlags

type Case = { readonly leaf: IssueOptions; readonly code?: Code }

const cases: Record<string, Case> = {
  'an SVID is accepted': { leaf: { identity } },
  'DNS names beside the URI are accepted': { leaf: { identity, dns: ['cart.shop.svc'] } },
  'another key usage beside digitalSignature is accepted': {
    leaf: { identity, keyUsage: digitalSignature | keyEncipherment },
  },
  'one that is not valid yet': {
    leaf: { identity, notBefore: new Date(now + HOUR_MS), notAfter: new Date(now + 2 * HOUR_MS) },
    code: 'PSTN_PEER_NOT_YET_VALID',
  },
  'an expired one': {
    leaf: { identity, notBefore: new Date(now - 2 * HOUR_MS), notAfter: new Date(now - HOUR_MS) },
    code: 'PSTN_PEER_EXPIRED',
  },
  'no URI SAN': { leaf: { dns: ['cart.shop.svc'] }, code: 'PSTN_PEER_ID_INVALID' },
  'two URI SANs': { leaf: { uris: [identity, identity] }, code: 'PSTN_PEER_ID_INVALID' },
  'a URI that is not a SPIFFE ID': { leaf: { uris: ['https://cart.shop'] }, code: 'PSTN_PEER_ID_INVALID' },
  'a SPIFFE ID without a path': { leaf: { uris: ['spiffe://cluster.local'] }, code: 'PSTN_PEER_ID_INVALID' },
  'another trust domain': {
    leaf: { identity: 'spiffe://elsewhere/ns/shop/sa/cart' },
    code: 'PSTN_PEER_TRUST_DOMAIN',
  },
  'a CA certificate': { leaf: { identity, isCa: true }, code: 'PSTN_PEER_USAGE' },
  'no digitalSignature': { leaf: { identity, keyUsage: keyEncipherment }, code: 'PSTN_PEER_USAGE' },
  keyCertSign: { leaf: { identity, keyUsage: digitalSignature | keyCertSign }, code: 'PSTN_PEER_USAGE' },
  cRLSign: { leaf: { identity, keyUsage: digitalSignature | cRLSign }, code: 'PSTN_PEER_USAGE' },
  'no extended usages': { leaf: { identity, extKeyUsage: [] }, code: 'PSTN_PEER_USAGE' },
  'only clients': {
    leaf: { identity, extKeyUsage: [ExtendedKeyUsage.clientAuth] },
    code: 'PSTN_PEER_USAGE',
  },
  'only servers': {
    leaf: { identity, extKeyUsage: [ExtendedKeyUsage.serverAuth] },
    code: 'PSTN_PEER_USAGE',
  },
  'expiry is told before a wrong identity': {
    leaf: { dns: [], notBefore: new Date(now - 2 * HOUR_MS), notAfter: new Date(now - HOUR_MS) },
    code: 'PSTN_PEER_EXPIRED',
  },
  'a foreign trust domain is told before wrong usages': {
    leaf: { identity: 'spiffe://elsewhere/ns/shop/sa/cart', isCa: true },
    code: 'PSTN_PEER_TRUST_DOMAIN',
  },
}

for (const [name, { leaf, code }] of Object.entries(cases)) {
  t.test(code ? `${name}: ${code}` : name, async t => {
    const certificate = parseCertificate((await issue(leaf)).leaf)
    const check = () => checkSvidLeaf(certificate, { trustDomain: 'cluster.local', now })
    if (code) t.throws(check, { code })
    else t.equal(check(), identity)
  })
}
