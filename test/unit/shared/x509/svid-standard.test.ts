// SPIFFE X.509-SVID, section by section: a leaf before the check of every peer (alone and in a real handshake), a chain
// before the check of what a sidecar was issued, and what our own authority issues.
import 'reflect-metadata'
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509'
import { createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { clientTlsOptions, serverTlsOptions } from '../../../../shared/tls/contexts.ts'
import { checkIssuedChain } from '../../../../shared/x509/answer.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { contextTag, der, TAG } from '../../../../shared/x509/der.ts'
import { OID } from '../../../../shared/x509/oids.ts'
import { checkSvidLeaf } from '../../../../shared/x509/svid.ts'
import {
  ExtendedKeyUsage,
  type Issued,
  type IssueOptions,
  KeyUsageFlags,
  type TestAuthority,
  testAuthority,
} from '../../../support/certificates.ts'
import { rule } from '../../../support/standard.ts'
import { meet } from '../../../support/tls-meeting.ts'

const TRUST_DOMAIN = 'cluster.local'
const ID = 'spiffe://cluster.local/ns/shop/sa/cart'
const { digitalSignature, keyEncipherment, keyAgreement, keyCertSign, cRLSign } = KeyUsageFlags
const { serverAuth, clientAuth } = ExtendedKeyUsage
const root = await testAuthority(TRUST_DOMAIN)
const ours = await root.issue({ identity: 'spiffe://cluster.local/ns/shop/sa/web' })

const url = (value: string) => ({ type: 'url' as const, value })
const san = (names: readonly string[], critical = true) =>
  new SubjectAlternativeNameExtension(names.map(url), critical)
const usage = (flags: KeyUsageFlags, critical = true) => new KeyUsagesExtension(flags, critical)
const purposes = (critical = false) => new ExtendedKeyUsageExtension([serverAuth, clientAuth], critical)
const leafOf = (change: readonly Extension[]) => [
  new BasicConstraintsExtension(false, undefined, true),
  ...change,
]
const only = (...extensions: readonly Extension[]): IssueOptions => ({ onlyExtensions: leafOf(extensions) })

const codeOf = (check: () => unknown): string | undefined => {
  try {
    check()
    return undefined
  } catch (thrown) {
    return thrown instanceof PosternError ? thrown.code : String(thrown)
  }
}

/** The verdict of the pure check and that of a server who meets it: they may not differ. */
async function verdict(options: IssueOptions, authority: TestAuthority = root): Promise<string | undefined> {
  const issued = await authority.issue({ ...options })
  const alone = codeOf(() =>
    checkSvidLeaf(parseCertificate(issued.leaf), { trustDomain: TRUST_DOMAIN, now: Date.now() }),
  )
  const met = await metBy(issued)
  if (met !== alone) throw new Error(`alone ${alone}, in a handshake ${met}`)
  return alone
}

async function metBy({ key, chain }: Issued): Promise<string | undefined> {
  const { byServer } = await meet({
    server: serverTlsOptions(ours.credential(), root.bundle),
    client: { ...clientTlsOptions(ours.credential(), root.bundle), key, cert: chain },
    bundle: root.bundle,
  })
  return typeof byServer === 'string' ? byServer : undefined
}

const accepts = (options: IssueOptions) => async () => (await verdict(options)) === undefined
const refuses = (code: string, options: IssueOptions) => async () => (await verdict(options)) === code

rule('2', 'An X.509 SVID MUST contain exactly one URI SAN, and by extension, exactly one SPIFFE ID', {
  'one is accepted': accepts({ identity: ID }),
  'none is refused': refuses('PSTN_PEER_ID_INVALID', { dns: ['cart.shop.svc'] }),
  'one that is no SPIFFE ID is refused': refuses('PSTN_PEER_ID_INVALID', { identity: 'https://cart.shop' }),
})

rule('2', 'Validators encountering an SVID containing more than one URI SAN MUST reject the SVID', {
  'two SPIFFE IDs are refused': refuses('PSTN_PEER_ID_INVALID', { uris: [ID, `${ID}-2`] }),
  'the same twice is refused': refuses('PSTN_PEER_ID_INVALID', { uris: [ID, ID] }),
  'another URI beside it is refused': refuses('PSTN_PEER_ID_INVALID', { uris: [ID, 'https://cart.shop'] }),
})

rule('2', 'An X.509 SVID MAY contain any number of other SAN field types, including DNS SANs', {
  'many DNS names are accepted': accepts({
    identity: ID,
    dns: Array.from({ length: 40 }, (_, index) => `s${index}.shop.svc`),
  }),
})

rule('3.1', 'Leaf certificate SPIFFE IDs MUST have a non-root path component', {
  'the ID of a trust domain is refused': refuses('PSTN_PEER_ID_INVALID', {
    identity: 'spiffe://cluster.local',
  }),
  'a lone slash is refused': refuses('PSTN_PEER_ID_INVALID', { identity: 'spiffe://cluster.local/' }),
})

rule('3.1', 'The URI SAN extension MUST be marked as critical if Subject is omitted', {
  'critical without a subject is accepted': accepts(only(usage(digitalSignature), purposes(), san([ID]))),
  'not critical without a subject is refused': refuses(
    'PSTN_PEER_USAGE',
    only(usage(digitalSignature), purposes(), san([ID], false)),
  ),
  'not critical with a subject is accepted': accepts({
    ...only(usage(digitalSignature), purposes(), san([ID], false)),
    subject: 'CN=cart-0',
  }),
})

const CA_USAGE = usage(keyCertSign)
const asCa = (...extensions: readonly Extension[]) => [
  new BasicConstraintsExtension(true, undefined, true),
  ...extensions,
]

const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = createPublicKey(publicKey.export({ format: 'pem', type: 'spki' })).export({
  format: 'der',
  type: 'spki',
})

/** Why what was issued below an authority is thrown away, or undefined. */
async function thrownAway(authority: TestAuthority, options: IssueOptions = {}): Promise<string | undefined> {
  const { chain } = await authority.issue({ identity: ID, publicKey: spki, ...options })
  try {
    checkIssuedChain({
      chainPem: chain,
      publicKey,
      identity: parseSpiffeId(ID).id,
      roots: [root.root],
      now: Date.now(),
    })
    return undefined
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown)
  }
}
const below = async (extensions: readonly Extension[]) => thrownAway(await root.intermediate({ extensions }))
const takes =
  (...extensions: readonly Extension[]) =>
  async () =>
    (await below(asCa(...extensions))) === undefined
const throwsAway =
  (because: RegExp, ...extensions: readonly Extension[]) =>
  async () =>
    because.test((await below(asCa(...extensions))) ?? '')

rule('3.2', 'A signing certificate SHOULD itself be an SVID', {
  'our root and our issuer are': async () => {
    const held = await ownCas()
    return held.every(({ uriSans }) => uriSans.join() === 'spiffe://cluster.local')
  },
  'one that is none is followed all the same': takes(CA_USAGE),
})

rule(
  '3.2',
  'If present, the SPIFFE ID of a signing certificate MUST NOT have a path component, and SHOULD reside in the trust domain of any leaf SVIDs it issues',
  {
    'the trust domain’s ID is taken': takes(CA_USAGE, san(['spiffe://cluster.local'], false)),
    'that of another trust domain is taken': takes(CA_USAGE, san(['spiffe://elsewhere'], false)),
    'a workload’s ID is thrown away': throwsAway(/not that of a trust domain/, CA_USAGE, san([ID], false)),
    'two IDs are thrown away': throwsAway(
      /2 URI SANs/,
      CA_USAGE,
      san(['spiffe://cluster.local', 'spiffe://elsewhere'], false),
    ),
    'another URI is no SPIFFE ID': takes(CA_USAGE, san(['https://ca.example'], false)),
  },
)

rule('3.2', 'Signing certificates MUST NOT be used for authentication purposes', {
  'a CA certificate with a workload’s ID is refused': refuses('PSTN_PEER_USAGE', {
    identity: ID,
    isCa: true,
    keyUsage: digitalSignature | keyCertSign,
  }),
  'so is the issuer itself': async () => {
    const issuer = await root.issue({
      identity: 'spiffe://cluster.local',
      isCa: true,
      keyUsage: digitalSignature | keyCertSign,
    })
    return (await metBy(issuer)) === 'PSTN_PEER_ID_INVALID'
  },
})

rule(
  '4.1',
  'Signing certificates MUST set the cA field to true, and leaf certificates MUST set the cA field to false',
  {
    'a leaf that says it is none is accepted': accepts({ identity: ID }),
    'a leaf without basic constraints is accepted': accepts({
      onlyExtensions: [usage(digitalSignature), purposes(), san([ID])],
    }),
    'a leaf with cA is refused': refuses('PSTN_PEER_USAGE', { identity: ID, isCa: true }),
    'what a leaf has signed is thrown away': async () =>
      /no CA certificate/.test((await below([...leafOf([]), CA_USAGE])) ?? ''),
    'our root and our issuer set it': async () => (await ownCas()).every(({ isCa }) => isCa),
  },
)

rule('4.1', 'Valid X.509 SVID signing certificates MAY set the pathLenConstraint field', {
  'zero allows leaves': async () =>
    (await below([new BasicConstraintsExtension(true, 0, true), CA_USAGE])) === undefined,
  'and no issuer below it': async () => {
    const upper = await root.intermediate({
      extensions: [new BasicConstraintsExtension(true, 0, true), CA_USAGE],
    })
    return /path length/.test((await thrownAway(await upper.intermediate())) ?? '')
  },
})

const constraint = (tag: number, base: string, list = 0) =>
  new Extension(
    OID.nameConstraints,
    true,
    new Uint8Array(
      der(
        TAG.sequence,
        der(contextTag(list, true), der(TAG.sequence, der(tag, Buffer.from(base, 'latin1')))),
      ),
    ),
  )
const uriConstraint = (base: string, list = 0) => constraint(contextTag(6), base, list)
const EXCLUDED = 1

/** Our own reading of the constraint, which must be OpenSSL's in a handshake. */
const constrained =
  (allowed: boolean, options: IssueOptions, ...extensions: readonly Extension[]) =>
  async () => {
    const authority = await root.intermediate({ extensions: asCa(CA_USAGE, ...extensions) })
    const byAnswer = (await thrownAway(authority, options)) === undefined
    const byPeer = (await metBy(await authority.issue({ identity: ID, ...options }))) === undefined
    return byAnswer === allowed && byPeer === allowed
  }

rule('4.2', 'X.509 SVID signing certificates MAY apply URI name constraints as the implementor sees fit', {
  'the trust domain as a host is allowed': constrained(true, {}, uriConstraint('cluster.local')),
  'in whatever case': constrained(true, {}, uriConstraint('Cluster.LOCAL')),
  'another one is not': constrained(false, {}, uriConstraint('elsewhere')),
  'a leading dot means hosts below it': constrained(true, {}, uriConstraint('.local')),
  'and not that host itself': constrained(false, {}, uriConstraint('.cluster.local')),
  'a scheme makes it allow nothing': constrained(false, {}, uriConstraint('spiffe://cluster.local')),
  'nothing allows nothing': constrained(false, {}, uriConstraint('')),
  'an excluded trust domain is refused': constrained(false, {}, uriConstraint('cluster.local', EXCLUDED)),
  'another excluded one is not missed': constrained(true, {}, uriConstraint('elsewhere', EXCLUDED)),
  'DNS names are held to theirs': constrained(
    true,
    { dns: ['cart.shop.svc'] },
    constraint(contextTag(2), 'shop.svc'),
  ),
  'and refused beyond them': constrained(
    false,
    { dns: ['cart.workshop.svc'] },
    constraint(contextTag(2), 'shop.svc'),
  ),
  'a leaf is not where they belong': refuses('PSTN_PEER_USAGE', {
    identity: ID,
    extensions: [uriConstraint('cluster.local')],
  }),
})

rule('4.3', 'The key usage extension MUST be set on all SVIDs, and MUST be marked critical', {
  'critical is accepted': accepts(only(usage(digitalSignature), purposes(), san([ID]))),
  'a leaf without it is refused': refuses('PSTN_PEER_USAGE', only(purposes(), san([ID]))),
  'a leaf whose key usage is not critical is refused': refuses(
    'PSTN_PEER_USAGE',
    only(usage(digitalSignature, false), purposes(), san([ID])),
  ),
  'a signing SVID without it is thrown away': throwsAway(
    /no key usage/,
    san(['spiffe://cluster.local'], false),
  ),
  'all that our authority issues has it': async () =>
    (await ownCas()).every(({ critical }) => critical.has(OID.keyUsage)),
})

rule('4.3', 'SVID signing certificates MUST set keyCertSign. They MAY set cRLSign', {
  'both are taken': takes(usage(keyCertSign | cRLSign), san(['spiffe://cluster.local'], false)),
  'one without keyCertSign is thrown away': throwsAway(/keyCertSign/, usage(cRLSign)),
  'our root and our issuer set it': async () =>
    (await ownCas()).every(({ keyUsage }) => keyUsage?.has('keyCertSign')),
})

rule('4.3', 'Leaf SVIDs MUST set digitalSignature. They MAY set keyEncipherment and/or keyAgreement', {
  'all three are accepted': accepts({
    identity: ID,
    keyUsage: digitalSignature | keyEncipherment | keyAgreement,
  }),
  'one without digitalSignature is refused': refuses('PSTN_PEER_USAGE', {
    identity: ID,
    keyUsage: keyEncipherment | keyAgreement,
  }),
})

rule('4.3', 'Leaf SVIDs MUST NOT set keyCertSign or cRLSign', {
  'keyCertSign is refused': refuses('PSTN_PEER_USAGE', {
    identity: ID,
    keyUsage: digitalSignature | keyCertSign,
  }),
  'cRLSign is refused': refuses('PSTN_PEER_USAGE', { identity: ID, keyUsage: digitalSignature | cRLSign }),
})

rule('4.4', 'Leaf SVIDs SHOULD include this extension, and it MAY be marked as critical', {
  'critical is accepted': accepts(only(usage(digitalSignature), purposes(true), san([ID]))),
  'without it is refused, which is stricter: such a key could speak for anything': refuses(
    'PSTN_PEER_USAGE',
    {
      identity: ID,
      extKeyUsage: [],
    },
  ),
})

rule('4.4', 'When included, fields id-kp-serverAuth and id-kp-clientAuth MUST be set', {
  'both, and more, are accepted': accepts({
    identity: ID,
    extKeyUsage: [serverAuth, clientAuth, ExtendedKeyUsage.emailProtection],
  }),
  'only the one is refused': refuses('PSTN_PEER_USAGE', { identity: ID, extKeyUsage: [clientAuth] }),
  'only the other is refused': refuses('PSTN_PEER_USAGE', { identity: ID, extKeyUsage: [serverAuth] }),
})

rule('5.1', 'The validation of trust in a given SVID MUST follow RFC 5280 path validation semantics', {
  'a chain in its validity, with its usages and to its root is taken': takes(CA_USAGE),
  'an issuer that has expired is thrown away': async () => {
    const stale = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) }
    return /not valid now/.test((await thrownAway(await root.intermediate(stale))) ?? '')
  },
  'an issuer with an unknown critical extension is thrown away': throwsAway(
    /unknown critical extension 1\.2\.3\.4/,
    CA_USAGE,
    new Extension('1.2.3.4', true, new Uint8Array(der(TAG.sequence))),
  ),
  'a leaf with an unknown critical extension is refused': async () => {
    const unknown = new Extension('1.2.3.4', true, new Uint8Array(der(TAG.sequence)))
    const issued = await root.issue({ identity: ID, extensions: [unknown] })
    // OpenSSL is the first to refuse it, as a flaw of the chain.
    return (await metBy(issued)) === 'PSTN_PEER_UNTRUSTED'
  },
  'a root of the same name with another key is thrown away': async () =>
    /does not lead to a root/.test((await thrownAway(await testAuthority(TRUST_DOMAIN))) ?? ''),
})

rule(
  '5.2',
  'The validator MUST ensure that the CA field in the basic constraints extension is set to false, and that keyCertSign and cRLSign are not set in the key usage extension',
  {
    'each of the three is refused by itself': async () => {
      const refusals = await Promise.all(
        [
          { isCa: true },
          { keyUsage: digitalSignature | keyCertSign },
          { keyUsage: digitalSignature | cRLSign },
        ].map(flaw => verdict({ identity: ID, ...flaw })),
      )
      return refusals.every(code => code === 'PSTN_PEER_USAGE')
    },
  },
)

rule(
  '5.2',
  'The validator MUST also ensure that the scheme of the SPIFFE ID is set to spiffe, and MUST ensure that the SPIFFE ID has a non-root path component',
  {
    'another scheme is refused': refuses('PSTN_PEER_ID_INVALID', {
      identity: 'https://cluster.local/ns/shop/sa/cart',
    }),
    'upper case is refused': refuses('PSTN_PEER_ID_INVALID', {
      identity: 'SPIFFE://cluster.local/ns/shop/sa/cart',
    }),
    'no path is refused': refuses('PSTN_PEER_ID_INVALID', { identity: 'spiffe://cluster.local' }),
  },
)

async function ownCas() {
  const made = await createRoot(TRUST_DOMAIN, Date.now())
  const issuer = await createIssuer(made, TRUST_DOMAIN, Date.now())
  return [made, issuer].map(({ certificate }) => parseCertificate(certificate))
}
