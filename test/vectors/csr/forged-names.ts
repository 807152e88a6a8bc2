// Names in every form and place where a request can hold one: SANs, SPIFFE IDs that are not the canonical one, subjects.
import { contextTag, der, TAG } from '../../../shared/x509/der.ts'
import {
  bmpName,
  COMMON_NAME,
  directoryName,
  dns,
  email,
  extension,
  ip,
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
  serviceName,
  USER_ID,
  uri,
  utf8String,
} from '../../support/forged-requests.ts'
import { ADMIN, type Body, BY_API_SERVER, canonical, extended, type Forgery, IDENTITY } from './cases.ts'

const withNames = (...names: Buffer[]): RequestParts => ({ names: [uri(IDENTITY), ...names] })
const only = (...names: Buffer[]): RequestParts => ({ names })

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
  'a port': IDENTITY.replace('cluster.local', 'cluster.local:443'),
  'a user': IDENTITY.replace('cluster.local', 'root@cluster.local'),
  'a query': `${IDENTITY}?sa=admin`,
  'a fragment': `${IDENTITY}#admin`,
  'a dot behind the trust domain': [IDENTITY.replace('cluster.local', 'cluster.local.'), BY_API_SERVER],
  'no trust domain': IDENTITY.replace('cluster.local', ''),
  'a space behind': `${IDENTITY} `,
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
  ),
  canonical(
    'a SAN with a second list behind the first',
    { san: rawSan(Buffer.concat([der(TAG.sequence, uri(IDENTITY)), der(TAG.sequence, uri(ADMIN))])) },
    /./,
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

export const forgedNames: readonly Forgery[] = [
  ...identities,
  ...spiffeIds,
  ...otherNames,
  ...names,
  ...subjects,
]
