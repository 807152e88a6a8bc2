// Extensions and attributes beside the SAN, and encodings that two readers would read differently.
import { der, derOid, readDer, readInside, TAG } from '../../../shared/x509/der.ts'
import { OID } from '../../../shared/x509/oids.ts'
import {
  type Alter,
  attribute,
  caFalse,
  caPathLength,
  caTrue,
  challengePassword,
  dns,
  extension,
  extensionRequest,
  extKeyUsage,
  indefinite,
  keyCertSign,
  keyUsage,
  longLength,
  microsoftExtensionRequest,
  type RequestParts,
  sanOf,
  serverAuth,
  uri,
  utf8String,
} from '../../support/forged-requests.ts'
import { ADMIN, type Body, BY_API_SERVER, canonical, extended, type Forgery, IDENTITY } from './cases.ts'

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
    BY_API_SERVER,
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
  canonical('no attributes', { info: partsOf(parts => parts.slice(0, 3)) }, /./, BY_API_SERVER),
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
    BY_API_SERVER,
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

export const forgedStructures: readonly Forgery[] = [...extensions, ...attributes, ...encodings, ...malformed]
