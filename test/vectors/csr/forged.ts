// Requests that the approver must deny: what differs from the honest one, and the rule that must catch it.
import {
  caTrue,
  challengePassword,
  directoryName,
  dns,
  email,
  extension,
  extensionRequest,
  ip,
  keyCertSign,
  otherName,
  type RequestParts,
  sanOf,
  serverAuth,
  uri,
} from '../../support/forged-requests.ts'
import { type Case, extra, IDENTITY, metadata, OTHER_UID, type Patch, POD_UID, spec } from './corpus.ts'

const POD_NAME = 'authentication.kubernetes.io/pod-name'
const POD_UID_KEY = 'authentication.kubernetes.io/pod-uid'
const NODE_NAME = 'authentication.kubernetes.io/node-name'
const withNames = (...names: Buffer[]): RequestParts => ({ names: [uri(IDENTITY), ...names] })

export type Forgery = Case & { readonly rule: string; readonly because: RegExp }

const token: readonly Forgery[] = [
  {
    name: 'a token bound to no pod',
    object: spec({ extra: null }),
    rule: 'pod-bound-token',
    because: /not bound/,
  },
  {
    name: 'a token without pod name',
    object: extra(POD_NAME, null),
    rule: 'pod-bound-token',
    because: /pod-name/,
  },
  {
    name: 'a token without pod uid',
    object: extra(POD_UID_KEY, []),
    rule: 'pod-bound-token',
    because: /pod-uid/,
  },
  {
    name: 'a token without node',
    object: extra(NODE_NAME, null),
    rule: 'pod-bound-token',
    because: /node-name/,
  },
  {
    name: 'two pod uids',
    object: extra(POD_UID_KEY, [POD_UID, OTHER_UID]),
    rule: 'pod-bound-token',
    because: /one value each/,
  },
  {
    name: 'one pod name twice',
    object: extra(POD_NAME, ['cart-7d9f', 'cart-7d9f']),
    rule: 'pod-bound-token',
    because: /one value each/,
  },
  {
    name: 'an empty node name',
    object: extra(NODE_NAME, ['']),
    rule: 'pod-bound-token',
    because: /not bound/,
  },
  {
    name: 'a service account that cannot stand in a SPIFFE ID',
    object: spec({ username: 'system:serviceaccount:shop:..' }),
    rule: 'identity',
    because: /SPIFFE ID/,
  },
]

const pod: readonly Forgery[] = [
  { name: 'no such pod', pod: null, rule: 'pod-exists', because: /no pod cart-7d9f/ },
  {
    name: 'a pod recreated under the same name',
    pod: { metadata: { uid: OTHER_UID } },
    rule: 'pod-uid',
    because: /another uid/,
  },
  {
    name: 'the uid of another pod',
    object: { ...extra(POD_UID_KEY, [OTHER_UID]), ...metadata({ name: `postern-${OTHER_UID}-0` }) },
    rule: 'pod-uid',
    because: /another uid/,
  },
  {
    name: 'a pod of another name',
    pod: { metadata: { name: 'other' } },
    rule: 'pod-uid',
    because: /another uid/,
  },
  {
    name: 'a pod of another namespace',
    pod: { metadata: { namespace: 'other' } },
    rule: 'pod-uid',
    because: /another uid/,
  },
  {
    name: 'another service account than the pod’s',
    object: spec({ username: 'system:serviceaccount:shop:admin' }),
    rule: 'pod-service-account',
    because: /service account admin/,
  },
  {
    name: 'a token from another node than the pod’s',
    object: extra(NODE_NAME, ['node-2']),
    rule: 'pod-node',
    because: /not on node node-2/,
  },
  { name: 'a pod on no node', pod: { spec: { nodeName: null } }, rule: 'pod-node', because: /not on node/ },
  {
    name: 'a pod that succeeded',
    pod: { status: { phase: 'Succeeded' } },
    rule: 'pod-live',
    because: /ended/,
  },
  { name: 'a pod that failed', pod: { status: { phase: 'Failed' } }, rule: 'pod-live', because: /ended/ },
  {
    name: 'a pod whose grace period is over',
    pod: { metadata: { deletionTimestamp: '2026-11-21T11:59:59Z' } },
    rule: 'pod-live',
    because: /shut down is over/,
  },
]

const named = (name: string): Patch => metadata({ name })

const form: readonly Forgery[] = [
  {
    name: 'a name of another pod',
    object: named(`postern-${OTHER_UID}-0`),
    rule: 'name',
    because: /pod uid/,
  },
  { name: 'a ninth name', object: named(`postern-${POD_UID}-8`), rule: 'name', because: /0 to 7/ },
  {
    name: 'a slot with a leading zero',
    object: named(`postern-${POD_UID}-00`),
    rule: 'name',
    because: /0 to 7/,
  },
  { name: 'a free name', object: named('my-request'), rule: 'name', because: /pod uid/ },
  { name: 'a label', object: metadata({ labels: { a: 'b' } }), rule: 'metadata', because: /labels/ },
  {
    name: 'cert-manager’s annotation that asks for a CA',
    object: metadata({ annotations: { 'experimental.cert-manager.io/request-is-ca': 'true' } }),
    rule: 'metadata',
    because: /annotations/,
  },
  {
    name: 'cert-manager’s annotation that asks for ten years',
    object: metadata({ annotations: { 'experimental.cert-manager.io/request-duration': '87600h' } }),
    rule: 'metadata',
    because: /annotations/,
  },
  {
    name: 'an owner',
    object: metadata({ ownerReferences: [{ kind: 'Pod', name: 'x', uid: 'y', apiVersion: 'v1' }] }),
    rule: 'metadata',
    because: /ownerReferences/,
  },
  {
    name: 'a finalizer, which would keep the name',
    object: metadata({ finalizers: ['example.com/keep'] }),
    rule: 'metadata',
    because: /finalizers/,
  },
  {
    name: 'a usage that signs certificates',
    object: spec({ usages: ['digital signature', 'server auth', 'client auth', 'cert sign'] }),
    rule: 'usages',
    because: /exactly/,
  },
  {
    name: 'a usage too few',
    object: spec({ usages: ['digital signature', 'client auth'] }),
    rule: 'usages',
    because: /exactly/,
  },
  {
    name: 'a usage twice in the place of another',
    object: spec({ usages: ['digital signature', 'client auth', 'client auth'] }),
    rule: 'usages',
    because: /exactly/,
  },
  { name: 'no usages', object: spec({ usages: [] }), rule: 'usages', because: /exactly/ },
  { name: 'more than 4 KiB', pem: pem => pem + '\n'.repeat(4096), rule: 'size', because: /larger than 4096/ },
  { name: 'two PEM blocks', pem: pem => pem + pem, rule: 'pkcs10', because: /exactly one PEM block/ },
  {
    name: 'text behind the PEM block',
    pem: pem => `${pem}# me\n`,
    rule: 'pkcs10',
    because: /exactly one PEM block/,
  },
  {
    name: 'text before the PEM block',
    pem: pem => `# me\n${pem}`,
    rule: 'pkcs10',
    because: /exactly one PEM block/,
  },
  {
    name: 'PEM of another label',
    pem: pem => pem.replaceAll('CERTIFICATE REQUEST', 'NEW CERTIFICATE REQUEST'),
    rule: 'pkcs10',
    because: /exactly one PEM block/,
  },
  { name: 'no PEM at all', pem: () => 'hello', rule: 'pkcs10', because: /exactly one PEM block/ },
  {
    name: 'PEM around what is no request',
    pem: () => '-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n',
    rule: 'pkcs10',
    because: /PKCS#10/,
  },
]

const key: readonly Forgery[] = [
  { name: 'a weak key: RSA of 1024 bits', csr: { key: 'rsa1024' }, rule: 'key', because: /P-256/ },
  { name: 'RSA of 2048 bits', csr: { key: 'rsa2048' }, rule: 'key', because: /P-256/ },
  { name: 'P-384', csr: { key: 'p384' }, rule: 'key', because: /P-256/ },
  { name: 'another curve of 256 bits', csr: { key: 'secp256k1' }, rule: 'key', because: /P-256/ },
  { name: 'Ed25519', csr: { key: 'ed25519' }, rule: 'key', because: /P-256/ },
  {
    name: 'a signature by another key',
    csr: { foreignSignature: true },
    rule: 'signature',
    because: /not signed/,
  },
  { name: 'a signature with SHA-384', csr: { sha384: true }, rule: 'signature', because: /ECDSA-SHA256/ },
]

const canonical = (name: string, csr: RequestParts, because: RegExp): Forgery => ({
  name,
  csr,
  rule: 'canonical',
  because,
})

const content: readonly Forgery[] = [
  canonical(
    'the identity of another service account',
    { names: [uri('spiffe://cluster.local/ns/shop/sa/admin')] },
    /lacks that URI SAN; it has the SAN url:.*admin/,
  ),
  canonical(
    'the identity of another namespace',
    { names: [uri('spiffe://cluster.local/ns/bank/sa/cart')] },
    /url:.*bank/,
  ),
  canonical(
    'the identity of another trust domain',
    { names: [uri('spiffe://elsewhere/ns/shop/sa/cart')] },
    /url:.*elsewhere/,
  ),
  canonical('an extra DNS name', withNames(dns('admin.bank.svc')), /SAN dns:admin\.bank\.svc/),
  canonical('an extra IP address', withNames(ip(10, 96, 0, 1)), /SAN ip:10\.96\.0\.1/),
  canonical('an extra e-mail address', withNames(email('root@example.com')), /SAN email:root@example\.com/),
  canonical('an extra user principal name', withNames(otherName('admin@corp')), /has the SAN/),
  canonical('an extra directory name', withNames(directoryName('admin')), /has the SAN dn:CN=admin/),
  canonical('two URIs', withNames(uri('spiffe://cluster.local/ns/shop/sa/admin')), /SAN url:.*admin/),
  canonical('its own URI twice', withNames(uri(IDENTITY)), /twice/),
  canonical('a URI behind a NUL', { names: [uri(`${IDENTITY}\0.evil`)] }, /lacks that URI SAN/),
  canonical('no names at all', { names: [] }, /lacks that URI SAN/),
  canonical('no extensions at all', { withoutExtensions: true }, /lacks that URI SAN/),
  canonical('a SAN that is not critical', { sanCritical: false }, /canonical one/),
  canonical('a common name', { commonName: 'admin' }, /subject CN=admin/),
  canonical('the CA bit', { extensions: [caTrue()] }, /extension basicConstraints/),
  canonical('a key usage that signs certificates', { extensions: [keyCertSign()] }, /extension keyUsage/),
  canonical('extended key usages', { extensions: [serverAuth()] }, /extension extKeyUsage/),
  canonical(
    'an extension that nobody knows',
    { extensions: [extension('1.2.3.4.5', Buffer.from('0500', 'hex'))] },
    /extension 1\.2\.3\.4\.5/,
  ),
  canonical('a second SAN', { extensions: [sanOf([dns('admin.bank.svc')])] }, /twice|dns:admin/),
  canonical(
    'a challenge password',
    { attributes: [challengePassword()] },
    /attribute 1\.2\.840\.113549\.1\.9\.7/,
  ),
  canonical(
    'a second extension request',
    { attributes: [extensionRequest(sanOf([dns('admin.bank.svc')]))] },
    /./,
  ),
  canonical('another version', { version: 1 }, /canonical one/),
]

export const forged: readonly Forgery[] = [...token, ...pod, ...form, ...key, ...content]
