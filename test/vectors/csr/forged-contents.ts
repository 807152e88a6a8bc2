// What stands in the PKCS#10 request beside the key: names in every form and place, extensions, attributes, and
// encodings that two readers would read differently.
import { contextTag, der, derOid, readDer, readInside, TAG } from '../../../shared/x509/der.ts'
import { OID } from '../../../shared/x509/oids.ts'
import {
  type Alter,
  attribute,
  bmpName,
  COMMON_NAME,
  caFalse,
  caPathLength,
  caTrue,
  challengePassword,
  directoryName,
  dns,
  email,
  extension,
  extensionRequest,
  extKeyUsage,
  indefinite,
  ip,
  keyCertSign,
  keyUsage,
  longLength,
  microsoftExtensionRequest,
  multiValued,
  nameOf,
  ORGANIZATION,
  otherName,
  type RequestParts,
  rawSan,
  registeredId,
  SERIAL_NUMBER,
  sanExplicitlyNotCritical,
  sanOf,
  serverAuth,
  serviceName,
  USER_ID,
  uri,
  utf8String,
} from '../../support/forged-requests.ts'
import { ADMIN, type Case, type Forgery, IDENTITY } from './cases.ts'

type Body = Omit<Case, 'name' | 'csr'> & Pick<Forgery, 'layer'>

const canonical = (name: string, csr: RequestParts, because: RegExp, more: Body = {}): Forgery => ({
  name,
  csr,
  rule: 'canonical',
  because,
  ...more,
})
const BY_API_SERVER: Body = { layer: 'API server' }
const withNames = (...names: Buffer[]): RequestParts => ({ names: [uri(IDENTITY), ...names] })
const only = (...names: Buffer[]): RequestParts => ({ names })
const extended = (...extensions: Buffer[]): RequestParts => ({ extensions })

const identities: readonly Forgery[] = [
  canonical(
    'the identity of another service account',
    only(uri(ADMIN)),
    /lacks that URI SAN; it has the SAN url:.*admin/,
  ),
  canonical(
    'the identity of another service account, and a status that says it was approved and issued, which the API server drops',
    only(uri(ADMIN)),
    /SAN url:.*admin/,
    {
      sent: {
        status: {
          conditions: [{ type: 'Approved', status: 'True', reason: 'Mine', message: 'mine' }],
          certificate: 'AAAA',
        },
      },
    },
  ),
  canonical(
    'the identity of another service account, and its user name written into the request, which the API server overwrites',
    only(uri(ADMIN)),
    /SAN url:.*admin/,
    { sent: { spec: { username: 'system:serviceaccount:shop:admin' } } },
  ),
  canonical(
    'the identity of another namespace',
    only(uri('spiffe://cluster.local/ns/bank/sa/cart')),
    /url:.*bank/,
  ),
  canonical(
    'the identity of another trust domain',
    only(uri('spiffe://elsewhere/ns/shop/sa/cart')),
    /url:.*elsewhere/,
  ),
  canonical(
    'the identity of the injector',
    only(uri('spiffe://cluster.local/ns/postern-system/sa/postern-injector')),
    /injector/,
  ),
  canonical('the trust domain itself', only(uri('spiffe://cluster.local')), /lacks that URI SAN/),
  canonical('two identities', withNames(uri(ADMIN)), /SAN url:.*admin/),
  canonical('two identities, its own behind', only(uri(ADMIN), uri(IDENTITY)), /SAN url:.*admin/),
  canonical('its own identity twice', withNames(uri(IDENTITY)), /twice/),
  canonical(
    'another service account whose name begins alike',
    only(uri(`${IDENTITY}-admin`)),
    /lacks that URI SAN/,
  ),
  canonical(
    'another service account whose name ends earlier',
    only(uri(IDENTITY.slice(0, -1))),
    /lacks that URI SAN/,
  ),
]

const ids: Readonly<Record<string, string | readonly [id: string, more: Body]>> = {
  'a trust domain in capitals': IDENTITY.replace('cluster.local', 'CLUSTER.LOCAL'),
  'a scheme in capitals': IDENTITY.replace('spiffe', 'SPIFFE'),
  'another scheme': IDENTITY.replace('spiffe', 'https'),
  'a service account in capitals': IDENTITY.replace('cart', 'Cart'),
  'a slash at the end': `${IDENTITY}/`,
  'two slashes': IDENTITY.replace('/sa/', '//sa/'),
  'a segment more': `${IDENTITY}/pod/cart-7d9f`,
  'a dot segment': IDENTITY.replace('/sa/', '/./sa/'),
  'a dot-dot segment': IDENTITY.replace('/sa/', '/sa/x/../'),
  'a letter percent-encoded': IDENTITY.replace('cart', 'c%61rt'),
  'a slash percent-encoded': IDENTITY.replace('/sa/', '%2Fsa%2F'),
  'a port': [IDENTITY.replace('cluster.local', 'cluster.local:443'), BY_API_SERVER],
  'a user': IDENTITY.replace('cluster.local', 'root@cluster.local'),
  'a query': `${IDENTITY}?sa=admin`,
  'a fragment': `${IDENTITY}#admin`,
  'a dot behind the trust domain': [IDENTITY.replace('cluster.local', 'cluster.local.'), BY_API_SERVER],
  'no trust domain': IDENTITY.replace('cluster.local', ''),
  'a space behind': [`${IDENTITY} `, {}],
  'a NUL behind': [`${IDENTITY}\0.evil`, BY_API_SERVER],
  'a newline behind': [`${IDENTITY}\n`, BY_API_SERVER],
  'the Cyrillic а': [IDENTITY.replace('cart', 'cаrt'), BY_API_SERVER],
  'an invisible character': [IDENTITY.replace('cart', 'ca\u200brt'), BY_API_SERVER],
  'an overlong identity': `${IDENTITY}/${'x'.repeat(2100)}`,
  nothing: '',
}

const spiffeIds: readonly Forgery[] = Object.entries(ids).map(([name, one]) => {
  const [id, more] = typeof one === 'string' ? [one, {}] : one
  return canonical(`a SPIFFE ID with ${name}`, only(uri(id)), /lacks that URI SAN/, more)
})

const otherNames: readonly Forgery[] = [
  canonical('an extra DNS name', withNames(dns('admin.bank.svc')), /SAN dns:admin\.bank\.svc/),
  canonical('an extra DNS name before its identity', only(dns('a'), uri(IDENTITY)), /SAN dns:a/),
  canonical('the API server’s DNS name', withNames(dns('kubernetes.default.svc')), /SAN dns:kubernetes/),
  canonical('any DNS name', withNames(dns('*')), /SAN dns:\*/),
  canonical('a DNS name in Unicode', withNames(dns('bänk')), /SAN dns:/, BY_API_SERVER),
  canonical(
    'a hundred DNS names',
    withNames(...Array.from({ length: 100 }, (_, at) => dns(`n${at}`))),
    /SAN dns:n0/,
  ),
  canonical('a DNS name alone', only(dns('cart.shop.svc')), /lacks that URI SAN; it has the SAN dns/),
  canonical('its identity as a DNS name', only(dns(IDENTITY)), /lacks that URI SAN/),
  canonical('an extra IP address', withNames(ip(10, 96, 0, 1)), /SAN ip:10\.96\.0\.1/),
  canonical('an extra IPv6 address', withNames(ip(...Array(15).fill(0), 1)), /SAN ip:/),
  canonical('an IP address of five bytes', withNames(ip(10, 96, 0, 1, 1)), /./, BY_API_SERVER),
  canonical('an extra e-mail address', withNames(email('root@example.com')), /SAN email:root@example\.com/),
  canonical('an extra user principal name', withNames(otherName('admin@corp')), /has the SAN/),
  canonical('an extra service name', withNames(serviceName('_ldap.corp')), /canonical one/),
  canonical('an extra directory name', withNames(directoryName('admin')), /has the SAN dn:CN=admin/),
  canonical('an extra registered ID', withNames(registeredId('1.2.3')), /has the SAN/),
  canonical('a name of a kind that does not exist', withNames(der(contextTag(9), Buffer.from('x'))), /./),
  canonical(
    'its identity in a constructed value',
    only(der(contextTag(6, true), Buffer.from(IDENTITY))),
    /./,
  ),
]

const names: readonly Forgery[] = [
  canonical('no names at all', only(), /lacks that URI SAN/),
  canonical('no extensions at all', { withoutExtensions: true }, /lacks that URI SAN/),
  canonical('a SAN that is not critical', { sanCritical: false }, /canonical one/),
  canonical(
    'a SAN that says that it is not critical',
    { san: sanExplicitlyNotCritical([uri(IDENTITY)]) },
    /canonical one/,
  ),
  canonical('a second SAN', extended(sanOf([dns('admin.bank.svc')])), /twice|dns:admin/, BY_API_SERVER),
  canonical('its SAN twice', extended(sanOf([uri(IDENTITY)])), /twice/, BY_API_SERVER),
  canonical('a SAN that is no list', { san: rawSan(uri(IDENTITY)) }, /./, BY_API_SERVER),
  canonical('a SAN that is empty', { san: rawSan(Buffer.alloc(0)) }, /./, BY_API_SERVER),
  canonical(
    'a SAN with a byte behind the list',
    { san: rawSan(Buffer.concat([der(TAG.sequence, uri(IDENTITY)), Buffer.alloc(1)])) },
    /./,
    BY_API_SERVER,
  ),
  canonical(
    'a SAN with a second list behind the first',
    { san: rawSan(Buffer.concat([der(TAG.sequence, uri(IDENTITY)), der(TAG.sequence, uri(ADMIN))])) },
    /./,
    BY_API_SERVER,
  ),
  canonical(
    'a name under the SAN’s OID of before',
    extended(extension('2.5.29.7', der(TAG.sequence, uri(ADMIN)))),
    /extension 2\.5\.29\.7/,
  ),
  canonical(
    'a name of the issuer',
    extended(extension('2.5.29.18', der(TAG.sequence, uri(ADMIN)))),
    /extension 2\.5\.29\.18/,
  ),
]

const subjects: readonly Forgery[] = [
  canonical('a common name', { subject: nameOf([COMMON_NAME, 'admin']) }, /subject CN=admin/),
  canonical(
    'its own pod’s name as a common name',
    { subject: nameOf([COMMON_NAME, 'cart-7d9f']) },
    /subject CN=cart/,
  ),
  canonical('an empty common name', { subject: nameOf([COMMON_NAME, '']) }, /subject CN=/),
  canonical(
    'two common names',
    { subject: nameOf([COMMON_NAME, 'cart-7d9f'], [COMMON_NAME, 'admin']) },
    /subject .*CN=admin/,
  ),
  canonical(
    'a group of Kubernetes',
    { subject: nameOf([ORGANIZATION, 'system:nodes']) },
    /subject O=system:nodes/,
  ),
  canonical(
    'the group of administrators, in one RDN with a name',
    { subject: multiValued([ORGANIZATION, 'system:masters'], [COMMON_NAME, 'admin']) },
    /subject .*system:masters/,
  ),
  canonical('a serial number', { subject: nameOf([SERIAL_NUMBER, '1']) }, /has the subject/),
  canonical('a user ID', { subject: nameOf([USER_ID, 'root']) }, /has the subject/),
  canonical(
    'a common name with control characters',
    { subject: nameOf([COMMON_NAME, 'a\u001b[2J\n\u202eb']) },
    /\\u\{1b\}.*\\u\{202e\}/,
  ),
  canonical('a common name in UTF-16', { subject: bmpName('admin') }, /subject CN=admin/),
  canonical('a common name of 2 KB', { subject: nameOf([COMMON_NAME, 'x'.repeat(2048)]) }, /has the subject/),
  canonical('an empty RDN', { subject: der(TAG.sequence, der(TAG.set)) }, /./),
  canonical(
    'a hundred RDNs',
    { subject: nameOf(...Array.from({ length: 100 }, () => [COMMON_NAME, 'x'] as const)) },
    /has the subject/,
  ),
  canonical('a subject that is no Name', { subject: utf8String('admin') }, /./, BY_API_SERVER),
]

const UNKNOWN = '1.2.3.4.5'
const NULL = Buffer.from('0500', 'hex')

const extensions: readonly Forgery[] = [
  canonical('the CA bit', extended(caTrue()), /extension basicConstraints/),
  canonical('the CA bit with a path length', extended(caPathLength(1)), /extension basicConstraints/),
  canonical('no CA bit, and says so', extended(caFalse()), /extension basicConstraints/),
  canonical('the CA bit twice', extended(caTrue(), caTrue()), /extension basicConstraints/, BY_API_SERVER),
  canonical('a key usage that signs certificates', extended(keyCertSign()), /extension keyUsage/),
  canonical('the key usage that it gets anyway', extended(keyUsage(7, 0x80)), /extension keyUsage/),
  canonical('extended key usages', extended(serverAuth()), /extension extKeyUsage/),
  canonical('the extended key usage of all', extended(extKeyUsage('2.5.29.37.0')), /extension extKeyUsage/),
  canonical(
    'name constraints',
    extended(extension(OID.nameConstraints, der(TAG.sequence), true)),
    /extension nameConstraints/,
  ),
  canonical('a policy', extended(extension('2.5.29.32', der(TAG.sequence))), /extension 2\.5\.29\.32/),
  canonical(
    'a template of Windows',
    extended(extension('1.3.6.1.4.1.311.20.2', utf8String('SubCA'))),
    /extension 1\.3\.6/,
  ),
  canonical(
    'TLS features',
    extended(extension('1.3.6.1.5.5.7.1.24', Buffer.from('3003020105', 'hex'))),
    /extension 1\.3\.6/,
  ),
  canonical('the mark of OCSP', extended(extension('1.3.6.1.5.5.7.48.1.5', NULL)), /extension 1\.3\.6/),
  canonical('an extension that nobody knows', extended(extension(UNKNOWN, NULL)), /extension 1\.2\.3\.4\.5/),
  canonical(
    'a critical extension that nobody knows',
    extended(extension(UNKNOWN, NULL, true)),
    /extension 1\.2\.3\.4\.5/,
  ),
  canonical(
    'an extension that nobody knows, twice',
    extended(extension(UNKNOWN, NULL), extension(UNKNOWN, NULL)),
    /extension 1\.2\.3\.4\.5/,
    BY_API_SERVER,
  ),
  canonical(
    'an extension of 2 KB',
    extended(extension(UNKNOWN, der(TAG.octetString, Buffer.alloc(2048)))),
    /extension 1\.2\.3\.4\.5/,
  ),
  canonical(
    'fifty extensions',
    extended(...Array.from({ length: 50 }, (_, at) => extension(`${UNKNOWN}.${at}`, NULL))),
    /extension 1\.2\.3\.4\.5\.0/,
  ),
]

const attributes: readonly Forgery[] = [
  canonical(
    'a challenge password',
    { attributes: [challengePassword()] },
    /attribute 1\.2\.840\.113549\.1\.9\.7/,
  ),
  canonical(
    'an attribute that nobody knows',
    { attributes: [attribute(UNKNOWN, NULL)] },
    /attribute 1\.2\.3\.4\.5/,
  ),
  canonical(
    'a second extension request',
    { attributes: [extensionRequest(sanOf([dns('admin.bank.svc')]))] },
    /./,
  ),
  canonical(
    'a second list of extensions in the one request',
    {
      withoutExtensions: true,
      attributes: [
        attribute(
          OID.extensionRequest,
          der(TAG.sequence, sanOf([uri(IDENTITY)])),
          der(TAG.sequence, caTrue()),
        ),
      ],
    },
    /./,
  ),
  canonical(
    'extensions in the attribute of Windows',
    { attributes: [microsoftExtensionRequest(sanOf([uri(ADMIN)]))] },
    /attribute 1\.3\.6\.1\.4\.1\.311\.2\.1\.14/,
  ),
  canonical(
    'its SAN in the attribute of Windows alone',
    { withoutExtensions: true, attributes: [microsoftExtensionRequest(sanOf([uri(IDENTITY)]))] },
    /lacks that URI SAN/,
  ),
  canonical(
    'an empty extension request',
    { withoutExtensions: true, attributes: [extensionRequest()] },
    /lacks that URI SAN/,
  ),
]

/** The parts of the CertificationRequestInfo, changed. */
const partsOf =
  (change: (parts: Buffer[]) => Buffer[]): Alter =>
  info =>
    der(TAG.sequence, ...change(readInside(readDer(info), TAG.sequence).map(({ raw }) => raw)))
const inner = (change: Alter, at: number): Alter =>
  partsOf(parts => parts.map((part, index) => (index === at ? change(part) : part)))

const encodings: readonly Forgery[] = [
  canonical('another version', { version: 1 }, /canonical one/),
  canonical('a version below zero', { version: 0xff }, /./),
  canonical('no attributes', { info: partsOf(parts => parts.slice(0, 3)) }, /./),
  canonical('a part behind the attributes', { info: partsOf(parts => [...parts, NULL]) }, /./),
  canonical(
    'the key twice',
    {
      info: partsOf(([version, name, key, rest]) =>
        [version, name, key, key, rest].filter(part => part !== undefined),
      ),
    },
    /./,
    BY_API_SERVER,
  ),
  canonical(
    'attributes under another tag',
    { info: inner(part => Buffer.concat([Buffer.from([0xa1]), part.subarray(1)]), 3) },
    /./,
  ),
]

const notDer = (name: string, parts: RequestParts, more: Body = BY_API_SERVER): Forgery => ({
  name,
  csr: parts,
  rule: 'pkcs10',
  because: /not a PKCS#10 request in DER/,
  ...more,
})

const malformed: readonly Forgery[] = [
  notDer('a length in more bytes than needed', { der: longLength }),
  notDer('a length in more bytes than needed within', { info: longLength }),
  notDer('an indefinite length', { der: indefinite }),
  notDer('an indefinite length within', { info: indefinite }),
  notDer('a byte behind the request', { der: bytes => Buffer.concat([bytes, Buffer.alloc(1)]) }),
  notDer('a request twice in one block', { der: bytes => Buffer.concat([bytes, bytes]) }),
  notDer('half a request', { der: bytes => bytes.subarray(0, bytes.length >> 1) }),
  notDer(
    'a part behind the signature',
    {
      der: bytes =>
        der(TAG.sequence, ...readInside(readDer(bytes), TAG.sequence).map(({ raw }) => raw), derOid(UNKNOWN)),
    },
    {},
  ),
  notDer('an info that is a set', {
    info: bytes => Buffer.concat([Buffer.from([TAG.set]), bytes.subarray(1)]),
  }),
]

export const forgedContents: readonly Forgery[] = [
  ...identities,
  ...spiffeIds,
  ...otherNames,
  ...names,
  ...subjects,
  ...extensions,
  ...attributes,
  ...encodings,
  ...malformed,
]
