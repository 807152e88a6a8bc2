// Requests for serving certificates, as the real openssl makes them: those that are signed, with what stands in the
// certificate, and those that fail, with the words of the reason. Data only.

export type ServingCase = {
  readonly name: string
  /** Arguments of `openssl req -new -nodes` beside the key's; absent: P-256. */
  readonly key?: readonly string[]
  readonly subject?: string
  readonly extensions?: readonly string[]
  /** `-sha256` unless given. */
  readonly digest?: string
  readonly usages?: readonly string[]
  readonly expirationSeconds?: number
}

const P256 = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
const curve = (name: string) => ['-newkey', 'ec', '-pkeyopt', `ec_paramgen_curve:${name}`]
const rsa = (bits: number) => ['-newkey', `rsa:${bits}`]
const WEB = 'subjectAltName=DNS:web.shop.svc'

export const DEFAULTS = {
  key: P256,
  subject: '/CN=web.shop.svc',
  extensions: [WEB],
  digest: '-sha256',
  usages: ['digital signature', 'key encipherment', 'server auth'],
} as const

export type Signed = ServingCase & {
  readonly dns?: readonly string[]
  readonly ips?: readonly string[]
  readonly commonName?: string | undefined
  readonly keyUsage?: readonly string[]
  readonly seconds?: number
}

export const SIGNED: readonly Signed[] = [
  { name: 'an ECDSA P-256 key' },
  { name: 'an ECDSA P-384 key', key: curve('P-384') },
  { name: 'an RSA key of 2048 bits', key: rsa(2048), keyUsage: ['digitalSignature', 'keyEncipherment'] },
  {
    name: 'an RSA key whose owner does not ask for key encipherment',
    key: rsa(3072),
    usages: ['digital signature', 'server auth'],
  },
  { name: 'an Ed25519 key', key: ['-newkey', 'ed25519'] },
  { name: 'a signature with SHA-512', digest: '-sha512' },
  {
    name: 'DNS names and IP addresses of both families',
    extensions: ['subjectAltName=DNS:web.shop.svc,DNS:*.apps.example.com,IP:10.0.34.2,IP:fd00::2'],
    dns: ['web.shop.svc', '*.apps.example.com'],
    ips: ['10.0.34.2', 'fd00::2'],
  },
  {
    name: 'an IP address alone, whose common name a client would take for the host: it is left out',
    extensions: ['subjectAltName=IP:192.0.2.24'],
    dns: [],
    ips: ['192.0.2.24'],
    commonName: undefined,
  },
  { name: 'no subject', subject: '/', commonName: undefined },
  {
    name: 'a subject with more than a name, of which the name is kept: O is a group where clients are authenticated',
    subject: '/O=system:masters/OU=shop/CN=web',
    commonName: 'web',
  },
  {
    name: 'a common name with an asterisk',
    subject: '/CN=*.apps.example.com',
    commonName: '*.apps.example.com',
  },
  {
    name: 'usages and constraints in the request, which count for nothing',
    extensions: [WEB, 'keyUsage=keyCertSign', 'extendedKeyUsage=clientAuth', 'basicConstraints=CA:FALSE'],
  },
  { name: 'a lifetime that is asked for', expirationSeconds: 3600, seconds: 3600 },
  { name: 'a lifetime beyond the longest, which is shortened', expirationSeconds: 31_536_000 },
  {
    name: 'a name that only begins like ours',
    extensions: ['subjectAltName=DNS:postern-system.example.com'],
    dns: ['postern-system.example.com'],
  },
]

export type Unsigned = ServingCase & { readonly because: RegExp }

export const UNSIGNED: readonly Unsigned[] = [
  {
    name: 'a URI, which would be an identity of the mesh',
    extensions: ['subjectAltName=DNS:web.shop.svc,URI:spiffe://cluster.local/ns/shop/sa/web'],
    because: /neither DNS name nor IP address: URI$/,
  },
  {
    name: 'an identity and nothing else',
    extensions: ['subjectAltName=critical,URI:spiffe://cluster.local/ns/shop/sa/web'],
    because: /: URI$/,
  },
  { name: 'an e-mail address', extensions: [`${WEB},email:a@example.com`], because: /: e-mail address$/ },
  {
    name: 'a name of another kind',
    extensions: [`${WEB},otherName:1.3.6.1.4.1.311.20.2.3;UTF8:admin@example.com`],
    because: /: other name$/,
  },
  { name: 'a registered ID', extensions: [`${WEB},RID:1.2.3.4`], because: /: registered ID$/ },
  { name: 'the CA bit', extensions: [WEB, 'basicConstraints=critical,CA:TRUE'], because: /asks for a CA/ },
  { name: 'no SAN, as of old', extensions: [], because: /no DNS name and no IP address/ },
  {
    name: 'an IP address written as a DNS name',
    extensions: ['subjectAltName=DNS:10.0.34.2'],
    because: /"10\.0\.34\.2" is an IP address/,
  },
  {
    name: 'a name with an underscore',
    extensions: ['subjectAltName=DNS:web_1.shop.svc'],
    because: /"web_1\.shop\.svc" is no DNS name/,
  },
  {
    name: 'a wildcard that is not the first label',
    extensions: ['subjectAltName=DNS:web.*.svc'],
    because: /"web\.\*\.svc" is no DNS name/,
  },
  {
    name: 'the name of the injector’s webhook',
    extensions: ['subjectAltName=DNS:postern-injector.postern-system.svc'],
    because: /of postern-system, the injector’s own$/,
  },
  {
    name: 'a wildcard over the injector’s namespace',
    extensions: ['subjectAltName=DNS:*.postern-system.svc.cluster.local'],
    because: /the injector’s own$/,
  },
  {
    name: 'client auth',
    usages: ['digital signature', 'server auth', 'client auth'],
    because:
      /usages must be digital signature, server auth and perhaps key encipherment: client auth is there$/,
  },
  { name: 'no server auth', usages: ['digital signature'], because: /server auth is missing$/ },
  {
    name: 'the signing of certificates',
    usages: ['digital signature', 'server auth', 'cert sign'],
    because: /cert sign is there$/,
  },
  {
    name: 'an RSA key of 1024 bits',
    key: rsa(1024),
    because: /must be ECDSA P-256 or P-384, RSA of 2048 to/,
  },
  { name: 'an ECDSA key of another curve', key: curve('P-521'), because: /public key must be/ },
  { name: 'a signature with SHA-1', digest: '-sha1', because: /with SHA-256 or better/ },
  { name: 'two common names', subject: '/CN=web/CN=db', because: /two common names/ },
  { name: 'a common name in Cyrillic', subject: '/CN=вэб', because: /printable ASCII/ },
]
