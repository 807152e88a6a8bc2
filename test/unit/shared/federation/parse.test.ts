// Federation documents: what is accepted, and each thing that is refused, with its place.
import t from 'tap'
import { canonicalCidr, cidrsOverlap } from '../../../../shared/cidr.ts'
import { parseFederation } from '../../../../shared/federation/parse.ts'
import { describeProblem } from '../../../../shared/policy/document.ts'
import { writeSpiffeBundle } from '../../../../shared/spiffe-bundle.ts'
import { testAuthority } from '../../../support/certificates.ts'

const OWN = 'cluster.local'
const partner = await testAuthority('partner.example')
const leaf = (await partner.issue({ identity: 'spiffe://partner.example/x' })).leaf
const block = (text: string, indent: number) =>
  text
    .trimEnd()
    .split('\n')
    .map(line => ' '.repeat(indent) + line)
    .join('\n')
const JWKS = writeSpiffeBundle({ ...partner.bundle, sequence: 3n })

const trustDomain = (bundle: string, rest = '') => `apiVersion: federation.postern.dev/v1
kind: TrustDomain
metadata: {name: partner}
spec:
  trustDomain: partner.example
  bundle:
${block(bundle, 4)}
${rest}`
const ENDPOINT = 'endpoint: {url: "https://partner.example/bundle.json"}'
const domain = (rest = '', bundle = ENDPOINT) => trustDomain(bundle, rest)

const clients = (spec: string) => `apiVersion: federation.postern.dev/v1
kind: PartnerClients
metadata: {name: batch}
spec:
${block(spec, 2)}
`
const CLIENTS = `namespace: shop
selector: {matchLabels: {app: cart}}
ports: [8443]
caBundle: |
${block(partner.root, 2)}
principals:
  - {subject: "CN=batch,O=Partner", principal: spiffe://partner-clients.example/batch}`

const parse = (...texts: string[]) =>
  parseFederation({ data: Object.fromEntries(texts.map((text, index) => [`${index}.yaml`, text])) }, OWN)
const problems = (...texts: string[]): string => {
  const parsed = parse(...texts)
  return parsed.kind === 'valid' ? 'valid' : parsed.problems.map(describeProblem).join('\n')
}

t.test('a partner by its endpoint, by a CA of its own, and by its bundle as text', async t => {
  t.strictSame(
    parse(domain('  destinations: [{cidr: 10.9.0.0/16, identities: [spiffe://partner.example/ns/shop/*]}]')),
    {
      kind: 'valid',
      documents: [
        {
          kind: 'TrustDomain',
          name: 'partner',
          trustDomain: 'partner.example',
          source: { kind: 'endpoint', url: 'https://partner.example/bundle.json' },
          destinations: [{ cidr: '10.9.0.0/16', identities: ['spiffe://partner.example/ns/shop/*'] }],
        },
      ],
    },
  )
  const withCa = `endpoint:\n  url: https://10.0.0.1:8443/\n  caBundle: |\n${block(partner.root, 4)}`
  t.match(parse(domain('', withCa)), {
    documents: [
      { source: { url: 'https://10.0.0.1:8443/', roots: [/BEGIN CERTIFICATE/] }, destinations: [] },
    ],
  })
  t.match(parse(domain('', `jwks: |\n${block(JWKS, 2)}`)), {
    documents: [{ source: { kind: 'inline', roots: [/BEGIN CERTIFICATE/] } }],
  })
})

t.test('partner clients', async t => {
  t.match(parse(clients(CLIENTS)), {
    kind: 'valid',
    documents: [
      {
        kind: 'PartnerClients',
        namespace: 'shop',
        selector: { app: 'cart' },
        clients: {
          name: 'batch',
          ports: [8443],
          roots: [/BEGIN CERTIFICATE/],
          principals: [
            { subject: 'CN=batch,O=Partner', principal: 'spiffe://partner-clients.example/batch' },
          ],
        },
      },
    ],
  })
  for (const subject of ['CN=a', 'CN=a+UID=7,O=B', 'CN=x\\\\,y', '2.5.4.5=12', 'CN=Zoë'])
    t.equal(problems(clients(CLIENTS.replace('CN=batch,O=Partner', subject))), 'valid', subject)
})

const replaced = (from: string, to: string) => clients(CLIENTS.replace(from, to))
const REFUSED: readonly [what: string, says: RegExp, ...texts: string[]][] = [
  [
    'our own trust domain',
    /^0\.yaml:5:3: spec\.trustDomain: cluster\.local is this mesh’s own/,
    domain().replace('partner.example', OWN),
  ],
  [
    'a trust domain in capitals',
    /spec\.trustDomain: .*not valid/,
    domain().replace('trustDomain: partner', 'trustDomain: Partner'),
  ],
  [
    'http',
    /spec\.bundle\.endpoint\.url: .*write an https:/,
    domain('', 'endpoint: {url: "http://partner.example/"}'),
  ],
  ['a password in the URL', /endpoint\.url/, domain('', 'endpoint: {url: "https://a:b@partner.example/"}')],
  ['no URL', /endpoint\.url: is empty/, domain('', 'endpoint: {}')],
  ['no source', /spec\.bundle: names no source/, domain('', '{}')],
  ['two sources', /spec\.bundle: names two sources/, domain('', `${ENDPOINT}\njwks: ""`)],
  ['no bundle', /spec\.bundle: is empty/, domain().replace(/ {2}bundle:\n.*\n/, '')],
  ['a field of no kind', /spec\.bundel: unknown field; did you mean bundle\?/, domain('  bundel: {}')],
  [
    'a web CA that is no CA',
    /caBundle: certificate 1 is no CA certificate/,
    domain('', `endpoint:\n  url: https://a/\n  caBundle: |\n${block(leaf, 4)}`),
  ],
  [
    'a web CA that is no PEM',
    /caBundle: it holds no certificate/,
    domain('', 'endpoint: {url: "https://a/", caBundle: x}'),
  ],
  ['a bundle that is no JWKS', /spec\.bundle\.jwks: SPIFFE bundle.*not JSON/, domain('', 'jwks: "{"')],
  [
    'a bundle without roots',
    /spec\.bundle\.jwks: the bundle holds no root/,
    domain('', `jwks: '{"keys": []}'`),
  ],
  [
    'a CIDR with host bits',
    /destinations\[0\]\.cidr: .*write 10\.9\.0\.0\/16/,
    domain('  destinations: [{cidr: 10.9.0.1/16, identities: [spiffe://partner.example/*]}]'),
  ],
  [
    'a CIDR that is an address',
    /cidr: .*write a CIDR/,
    domain('  destinations: [{cidr: 10.9.0.1, identities: [spiffe://partner.example/*]}]'),
  ],
  [
    'IPv6 in capitals',
    /write fd00:ab::\/32/,
    domain('  destinations: [{cidr: "FD00:AB::/32", identities: [spiffe://partner.example/*]}]'),
  ],
  [
    'identities of another domain',
    /identities\[0\]: is of the trust domain other\.example/,
    domain('  destinations: [{cidr: 10.9.0.0/16, identities: [spiffe://other.example/*]}]'),
  ],
  [
    'identities of ours',
    /is of the trust domain cluster\.local/,
    domain(`  destinations: [{cidr: 10.9.0.0/16, identities: [spiffe://${OWN}/*]}]`),
  ],
  ['no identities', /identities: is empty/, domain('  destinations: [{cidr: 10.9.0.0/16, identities: []}]')],
  [
    'a destination twice',
    /destinations\[1\]\.cidr: is written twice/,
    domain(
      '  destinations:\n    - {cidr: 10.9.0.0/16, identities: [spiffe://partner.example/*]}\n    - {cidr: 10.9.0.0/16, identities: [spiffe://partner.example/a]}',
    ),
  ],
  [
    'another API',
    /apiVersion: .*write apiVersion: federation/,
    domain().replace('federation.postern', 'policy.postern'),
  ],
  [
    'another kind',
    /^0\.yaml:2:1: kind: unknown value "TrustDomains"; did you mean TrustDomain\?/,
    domain().replace('kind: TrustDomain', 'kind: TrustDomains'),
  ],
  ['no name', /metadata\.name: is empty/, domain().replace('{name: partner}', '{}')],
  ['clients: no namespace', /spec\.namespace: is empty/, replaced('namespace: shop\n', '')],
  ['clients: no ports', /spec\.ports: is empty/, replaced('[8443]', '[]')],
  ['clients: a port of none', /spec\.ports\[0\]: 0 is not a port/, replaced('[8443]', '[0]')],
  [
    'clients: a selector of everybody by accident',
    /spec\.selector/,
    replaced('{matchLabels: {app: cart}}', '{}'),
  ],
  ['clients: no CA', /spec\.caBundle: is empty/, clients(CLIENTS.replace(/caBundle: \|\n( {2}.*\n)+/, ''))],
  [
    'clients: a principal of ours',
    /principals\[0\]\.principal: cluster\.local is this mesh’s own/,
    replaced('spiffe://partner-clients.example', `spiffe://${OWN}`),
  ],
  [
    'clients: a principal that is no SPIFFE ID',
    /principal: .*does not start with spiffe/,
    replaced('spiffe://partner-clients.example/batch', 'batch'),
  ],
  [
    'clients: a subject with blanks',
    /principals\[0\]\.subject: .*RFC2253/,
    replaced('CN=batch,O=Partner', 'CN=batch, O=Partner'),
  ],
  ['clients: a subject of no parts', /subject: .*RFC2253/, replaced('CN=batch,O=Partner', 'batch')],
  [
    'clients: a subject twice',
    /principals\[1\]\.subject: is written twice/,
    clients(`${CLIENTS}\n  - {subject: "CN=batch,O=Partner", principal: spiffe://partner-clients.example/b}`),
  ],
  [
    'two documents of one domain',
    /both about partner\.example/,
    domain(),
    domain().replace('{name: partner}', '{name: other}'),
  ],
  ['two documents of one name', /TrustDomain partner is written twice/, domain(), domain()],
  [
    'a destination of two partners',
    /10\.9\.0\.0\/16 is a destination of TrustDomain/,
    domain('  destinations: [{cidr: 10.9.0.0/16, identities: [spiffe://partner.example/*]}]'),
    domain('  destinations: [{cidr: 10.9.0.0/16, identities: [spiffe://b.example/*]}]').replaceAll(
      'partner',
      'b',
    ),
  ],
  [
    'principals of a domain that has a bundle',
    /spiffe:\/\/partner\.example\/batch of PartnerClients batch .*has a bundle/,
    domain(),
    replaced('partner-clients.example', 'partner.example'),
  ],
  [
    'two CAs for one port of a pod',
    /may both be about port 8443 of a pod in shop/,
    clients(CLIENTS),
    clients(CLIENTS.replace('{app: cart}', '{tier: web}')).replace('batch}', 'other}'),
  ],
  [
    'too many',
    /25 trust domains; at most 24/,
    ...Array.from({ length: 25 }, (_, index) => domain().replaceAll('partner', `p${index}`)),
  ],
]
for (const [what, says, ...texts] of REFUSED)
  t.test(`${what}: refused`, async t => {
    t.match(problems(...texts), says)
  })

t.test('what only looks like a conflict is none', async t => {
  const other = clients(CLIENTS.replace('{app: cart}', '{app: till}')).replace('batch}', 'other}')
  t.equal(problems(clients(CLIENTS), other), 'valid', 'no pod has both labels')
  const elsewhere = clients(CLIENTS.replace('shop', 'bank')).replace('batch}', 'other}')
  t.equal(problems(clients(CLIENTS), elsewhere), 'valid')
  t.equal(
    problems(domain('  destinations: [{cidr: 0.0.0.0/0, identities: [spiffe://partner.example/*]}]')),
    'valid',
  )
})

t.test('CIDRs have one form', async t => {
  for (const [text, canonical] of [
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3/32', '10.1.2.3/32'],
    ['1.2.3.4/0', '0.0.0.0/0'],
    ['192.168.129.0/17', '192.168.128.0/17'],
    ['FD00::1/16', 'fd00::/16'],
    ['fd00:1:2:3::/49', 'fd00:1:2::/49'],
    ['2001:db8:0:0:0:0:0:1/128', '2001:db8::1/128'],
    ['::/0', '::/0'],
    ['::ffff:10.0.0.1/128', undefined],
    ['10.0.0.0', undefined],
    ['10.0.0.0/33', undefined],
  ] as const)
    t.equal(canonicalCidr(text), canonical, text)
  t.ok(cidrsOverlap('10.0.0.0/8', '10.9.0.0/16'))
  t.ok(cidrsOverlap('fd00:1::/32', 'fd00::/16'))
  t.notOk(cidrsOverlap('10.0.0.0/9', '10.128.0.0/9'))
  t.notOk(cidrsOverlap('0.0.0.0/0', '::/0'))
})
