// SPIFFE Trust Domain and Bundle, sections 2 to 4, and X.509-SVID, section 6, sentence by sentence. A real other
// implementation is met in test/kube/spiffe-bundle.test.ts.
import 'reflect-metadata'
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { PosternError } from '../../../shared/errors.ts'
import { readSpiffeBundle, type SpiffeBundle, writeSpiffeBundle } from '../../../shared/spiffe-bundle.ts'
import { serverTlsOptions } from '../../../shared/tls/contexts.ts'
import { testAuthority } from '../../support/certificates.ts'
import { rule } from '../../support/standard.ts'
import { meet } from '../../support/tls-meeting.ts'

const TRUST_DOMAIN = 'example.org'
const first = await testAuthority(TRUST_DOMAIN)
const second = await testAuthority(TRUST_DOMAIN)
const foreign = await testAuthority('elsewhere.example')
const leaf = await first.issue({ identity: 'spiffe://example.org/a' })

const x5c = (pem: string) => new X509Certificate(pem).raw.toString('base64')
const keyOf = (pem: string) => new X509Certificate(pem).publicKey.export({ format: 'jwk' })
const entry = (pem: string, more: object = {}) => ({
  ...keyOf(pem),
  use: 'x509-svid',
  x5c: [x5c(pem)],
  ...more,
})
const text = (keys: unknown, more: object = {}) => JSON.stringify({ ...more, keys })
const read = (document: string) => readSpiffeBundle(document, TRUST_DOMAIN)
const rootsIn = (keys: unknown) => read(text(keys)).bundle.roots
const ignoredIn = (keys: unknown) => read(text(keys)).ignored.join()

const refusal = (document: string): string => {
  try {
    read(document)
    return ''
  } catch (thrown) {
    if (thrown instanceof PosternError && thrown.code === 'PSTN_TRUST_INVALID') return thrown.message
    throw thrown
  }
}
const same = (found: unknown, wanted: unknown) => JSON.stringify(found) === JSON.stringify(wanted)
const written = (bundle: Omit<SpiffeBundle, 'trustDomain'>) =>
  JSON.parse(writeSpiffeBundle({ trustDomain: TRUST_DOMAIN, ...bundle }))

rule('3', 'Validators must choose the bundle corresponding to the trust domain that the SVID resides in', {
  'whoever reads a bundle says whose it is': () => read(text([])).bundle.trustDomain === TRUST_DOMAIN,
  'an impossible trust domain is refused': () => {
    try {
      readSpiffeBundle(text([]), 'Example.org')
      return false
    } catch {
      return true
    }
  },
  'a root of another domain’s bundle does not vouch for this one': async () => {
    const stranger = await foreign.issue({ identity: 'spiffe://example.org/a' })
    const { bundle } = read(text([entry(first.root)]))
    const known = await verdictOn(leaf, bundle)
    return known === 'spiffe://example.org/a' && (await verdictOn(stranger, bundle)) === 'PSTN_PEER_UNTRUSTED'
  },
})

rule(
  '4.1',
  'Parameters not defined here MAY be included, however implementations MUST NOT require their presence',
  {
    'others are passed over': () =>
      same(read(text([entry(first.root)], { more: { keys: 1 } })).bundle.roots, [first.root]),
    'nothing but keys is needed': () => same(read(text([])).bundle, { trustDomain: TRUST_DOMAIN, roots: [] }),
  },
)

const sequenceIn = (source: string) => read(`{"spiffe_sequence": ${source}, "keys": []}`).bundle.sequence
rule('4.1.1', 'When present, its value MUST be a monotonically increasing integer', {
  'it is read': () => sequenceIn('12') === 12n,
  'its absence is no error': () => read(text([])).bundle.sequence === undefined,
  'what is no integer is refused with its name': () =>
    ['-1', '1.5', '1.0', '1e3', '"1"', 'null', 'true', '[]', '{}'].every(source =>
      refusal(`{"spiffe_sequence": ${source}, "keys": []}`).includes('spiffe_sequence'),
    ),
  'it is written': () => written({ roots: [], sequence: 12n }).spiffe_sequence === 12,
})

rule('4.1.1', 'Care should be taken to ensure that the resulting type has at least 64 bits of precision', {
  'all 64 are kept': () => sequenceIn('18446744073709551615') === 2n ** 64n - 1n,
  'two that a double would confuse are two': () => sequenceIn('9007199254740993') === 9007199254740993n,
  'more are refused': () => refusal('{"spiffe_sequence": 18446744073709551616, "keys": []}') !== '',
})

rule(
  '4.1.2',
  'When set, its value MUST be an integer representing the suggested consumer refresh interval in seconds',
  {
    'it is read and written': () =>
      read(text([], { spiffe_refresh_hint: 300 })).bundle.refreshHintSeconds === 300 &&
      written({ roots: [], refreshHintSeconds: 300 }).spiffe_refresh_hint === 300,
    'what is no integer is refused with its name': () =>
      [-1, 0.5, '300', null].every(hint =>
        refusal(text([], { spiffe_refresh_hint: hint })).includes('spiffe_refresh_hint'),
      ),
  },
)

rule('4.1.3', 'The parameter keys MUST be present. Its value is an array of JWKs', {
  'without it the document is refused': () => /keys: missing/.test(refusal('{}')),
  'what is no array is refused': () =>
    [null, {}, 'x', 1].every(keys => /keys: not an array/.test(refusal(text(keys)))),
  'what is no JWK is refused with its place': () =>
    /keys\[1\]: not a JSON object/.test(refusal(text([entry(first.root), 7]))),
  'what is no JSON object is refused': () =>
    ['', 'x', '[]', 'null', '7', '{"keys": ['].every(document => refusal(document) !== ''),
  'it is always written': () => same(written({ roots: [] }).keys, []),
})

rule('4.1.3', 'Clients encountering unknown key types or uses MUST ignore the corresponding JWK element', {
  'both are passed over and told, and the rest is taken': () => {
    const { bundle, ignored } = read(
      text([{ kty: 'AKP', use: 'x509-svid' }, { kty: 'EC', use: 'wit-svid' }, entry(first.root)]),
    )
    return (
      same(bundle.roots, [first.root]) &&
      ignored.length === 2 &&
      /^keys\[0\]: its kty is "AKP"/.test(ignored[0] ?? '')
    )
  },
})

rule(
  '4.1.3',
  'The keys parameter may contain an empty array: workloads MUST treat all SVIDs from the trust domain as invalid and untrusted',
  {
    'no keys trust nobody': async () => {
      const { bundle } = read(text([]))
      return bundle.roots.length === 0 && (await verdictOn(leaf, bundle)) === 'PSTN_PEER_UNTRUSTED'
    },
    'nor do keys of which none can be used': async () => {
      const { bundle, ignored } = read(text([{ kty: 'EC', use: 'jwt-svid', kid: 'a' }, { use: 'x509-svid' }]))
      return ignored.length === 2 && (await verdictOn(leaf, bundle)) === 'PSTN_PEER_UNTRUSTED'
    },
  },
)

rule(
  '4.2',
  'Implementers SHOULD NOT include parameters which are defined neither here nor in the respective SVID specification',
  {
    'what is written has the key’s own members, use and x5c': () =>
      same(Object.keys(written({ roots: [first.root] }).keys[0]).sort(), [
        'crv',
        'kty',
        'use',
        'x',
        'x5c',
        'y',
      ]),
  },
)

rule(
  '4.2.1',
  'The kty parameter MUST be set. Clients encountering an unknown key type MUST ignore the entire JWK element',
  {
    'one without it is passed over': () => /no kty/.test(ignoredIn([entry(first.root, { kty: undefined })])),
    'so is an unknown one, whatever else it holds': () =>
      rootsIn([entry(first.root, { kty: 'ec' }), { kty: 'oct', use: 'x509-svid', x5c: 7 }]).length === 0,
    'one that is not the certificate’s is refused': () =>
      /keys\[0\]\.kty/.test(refusal(text([entry(first.root, { kty: 'RSA' })]))),
    'it is written': () => written({ roots: [first.root] }).keys[0].kty === 'EC',
  },
)

rule('4.2.2', 'The use parameter MUST be set. The values are case sensitive', {
  'another case is another use': () =>
    rootsIn(['X509-SVID', 'x509-Svid', 'sig', '', 7, null].map(use => entry(first.root, { use }))).length ===
    0,
})

rule(
  '4.2.2',
  'Clients encountering either a missing use parameter or an unknown use value MUST ignore the entire JWK element',
  {
    'a missing one': () => /no use/.test(ignoredIn([entry(first.root, { use: undefined })])),
    'an unknown one, whatever else it holds': () =>
      rootsIn([{ kty: 'EC', use: 'other', x5c: ['damaged'] }]).length === 0,
    'a key for JWT-SVIDs': () =>
      /"jwt-svid"/.test(ignoredIn([{ ...keyOf(first.root), use: 'jwt-svid', kid: 'a' }])),
  },
)

rule('X.509-SVID 6.1', 'One entry per CA certificate', {
  'two roots are two entries': () => written({ roots: [first.root, second.root] }).keys.length === 2,
  'the same twice is one': () =>
    written({ roots: [first.root, first.root] }).keys.length === 1 &&
    same(rootsIn([entry(first.root), entry(second.root), entry(first.root)]), [first.root, second.root]),
})

rule(
  'X.509-SVID 6.1',
  'The use parameter MUST be set to x509-svid. Additionally, the kid parameter MUST NOT be set',
  {
    'so it is written': () => {
      const [key] = written({ roots: [first.root] }).keys
      return key.use === 'x509-svid' && !('kid' in key)
    },
    'one that sets it is read all the same': () => rootsIn([entry(first.root, { kid: 'a' })]).length === 1,
  },
)

rule(
  'X.509-SVID 6.1',
  'Each entry MUST contain the x5c parameter with a value equal to the base64 encoded DER CA certificate. The value MUST include exactly one CA certificate',
  {
    'so it is written': () => same(written({ roots: [first.root] }).keys[0].x5c, [x5c(first.root)]),
    'what is no CA certificate is not written': () => {
      try {
        written({ roots: [leaf.leaf] })
        return false
      } catch (thrown) {
        return thrown instanceof PosternError && thrown.code === 'PSTN_TRUST_INVALID'
      }
    },
    'nor read': () => /keys\[0\]\.x5c\[0\].*no CA/.test(refusal(text([entry(leaf.leaf)]))),
    'base64url is not base64': () => {
      const base64url = x5c(first.root).replaceAll('+', '-').replaceAll('/', '_')
      const unpadded = x5c(first.root).replace(/=+$/, '')
      return [
        base64url,
        unpadded.padEnd(unpadded.length + 1, '\n'),
        '',
        ' ',
        'AAAA',
        7,
        null,
        first.root,
      ].every(value => /x5c\[0\]/.test(refusal(text([entry(first.root, { x5c: [value] })]))))
    },
    'a key beside it that is another is refused': () =>
      /keys\[0\]\.x:/.test(refusal(text([entry(first.root, { x: keyOf(second.root).x })]))),
  },
)

rule('X.509-SVID 6.2', 'If x5c is not set, or is empty, then the entry MUST be ignored', {
  'not set': () => /no x5c/.test(ignoredIn([entry(first.root, { x5c: undefined })])),
  empty: () => /x5c is empty/.test(ignoredIn([entry(first.root, { x5c: [] })])),
  'of another kind it is damaged': () =>
    /keys\[0\]\.x5c/.test(refusal(text([entry(first.root, { x5c: x5c(first.root) })]))),
})

rule(
  'X.509-SVID 6.2',
  'If the x5c parameter contains multiple values, then all but the first MUST be ignored',
  {
    'the first is taken, whatever the others are': () =>
      same(rootsIn([entry(first.root, { x5c: [x5c(first.root), x5c(second.root), 'damaged', 7] })]), [
        first.root,
      ]),
  },
)

rule(
  'X.509-SVID 6.2',
  'The X509-SVID CA bundle is the union of CA certificates extracted from the x509-svid JWK entries',
  {
    'in their order': () => same(rootsIn([entry(second.root), entry(first.root)]), [second.root, first.root]),
  },
)

t.test('a document is bounded in bytes, entries and roots', async t => {
  t.match(refusal(' '.repeat(1024 * 1024 + 1)), /more than 1048576 bytes/)
  t.match(refusal(text(Array(1025).fill({}))), /keys: more than 1024/)
  t.equal(read(text(Array(1024).fill({}))).ignored.length, 1024)
})

t.test('a deep document does not end the process', async t => {
  t.not(refusal(`${'['.repeat(500_000)}`), '')
  t.match(refusal(`{"keys": ${'['.repeat(1_000)}${']'.repeat(1_000)}}`), /keys\[0\]: not a JSON object/)
})

async function verdictOn(peer: typeof leaf, bundle: SpiffeBundle): Promise<string | undefined> {
  const server = await first.issue({ identity: 'spiffe://example.org/server' })
  const options = serverTlsOptions({ key: server.key, chain: server.chain }, bundle)
  const client = {
    key: peer.key,
    cert: peer.chain,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    rejectUnauthorized: false,
  } as const
  const { byServer } = await meet({ server: options, client, bundle })
  return typeof byServer === 'string' ? byServer : byServer?.identity
}
