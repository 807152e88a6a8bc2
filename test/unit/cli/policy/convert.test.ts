import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseAllDocuments, parse as parseYaml } from 'yaml'
import { policyConvert } from '../../../../cli/policy/convert.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'
import { typedAlone } from '../../../support/command-line.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const istio = (
  spec: string,
  { kind = 'AuthorizationPolicy', name = 'x', namespace = 'shop', more = '' } = {},
) =>
  `apiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${namespace}${more}}\nspec: ${spec}\n---\n`

async function converting(t: Test, text: string, ...options: string[]) {
  const file = join(scratchDirectory(t), 'istio.yaml')
  writeFileSync(file, text)
  return typedAlone(['policy', 'convert', file, ...options], [policyConvert])
}

/** What a single policy has become. */
async function specOf(t: Test, text: string) {
  const { code, out, err } = await converting(t, text)
  t.equal(code, 0, err)
  const { data, metadata } = parseYaml(out)
  const parsed = parsePolicyConfigMap(
    { data },
    { namespace: metadata.namespace, systemNamespace: 'postern-system' },
  )
  t.equal(parsed.kind, 'valid')
  return { spec: parseYaml(String(Object.values(data)[0])).spec, err }
}

const SAME: readonly (readonly [what: string, spec: string, more?: object])[] = [
  ['nothing is allowed', '{action: ALLOW}'],
  ['everybody is allowed', '{action: ALLOW, rules: [{}]}'],
  [
    'fields that mean the same',
    `{selector: {matchLabels: {app: a}}, action: ALLOW, rules: [{
      from: [{source: {principals: [cluster.local/ns/a/sa/b, "*"], notPrincipals: ["*/sa/x"], namespaces: [a], requestPrincipals: ["*"]}}],
      to: [{operation: {ports: ["80"], notPorts: ["81"], methods: [GET], notMethods: ["P*"], paths: ["/a/{*}", "/b/*"], notPaths: ["*.js"]}}],
      when: [{key: "request.headers[x-a]", values: ["a*"]}, {key: destination.port, notValues: ["90"]}, {key: "request.auth.claims[a][b]", values: [c]}]}]}`,
  ],
  ['DENY by principals', '{action: DENY, rules: [{from: [{source: {principals: ["*/ns/a/sa/b"]}}]}]}'],
]
for (const [what, spec] of SAME)
  t.test(`what means the same is taken over: ${what}`, async t => {
    t.same((await specOf(t, istio(spec))).spec, parseYaml(spec))
  })

const OTHERWISE: readonly (readonly [what: string, spec: string, ours: string, note: RegExp])[] = [
  ['no action is ALLOW', '{rules: [{}]}', '{action: ALLOW, rules: [{}]}', /^$/],
  ['an empty selector', '{selector: {}}', '{action: ALLOW}', /^$/],
  [
    'names and blocks in our spelling',
    '{action: ALLOW, rules: [{from: [{source: {serviceAccounts: [a, b/c], ipBlocks: [10.1.2.3/8, 10.0.0.1]}}], to: []}]}',
    '{action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/a, b/c], ipBlocks: [10.0.0.0/8, 10.0.0.1]}}]}]}',
    /^$/,
  ],
  [
    'hosts that ALLOW names',
    '{action: ALLOW, rules: [{to: [{operation: {hosts: [a, "*.b", "c:81", "d*", "*"], notHosts: [e]}}]}]}',
    '{action: ALLOW, rules: [{to: [{operation: {hosts: ["a:80", "*.b:80", "c:81", "d*", "*"], notHosts: [e]}}]}]}',
    /x: spec\.rules\[0\]\.to\[0\]\.operation\.hosts\[0\]: written as a:80(.|\n)*notHosts\[0\]: e means any port now/,
  ],
  [
    'hosts that DENY names',
    '{action: DENY, rules: [{to: [{operation: {hosts: [a], notHosts: [b]}}]}]}',
    '{action: DENY, rules: [{to: [{operation: {hosts: [a], notHosts: ["b:80"]}}]}]}',
    /a means any port now(.|\n)*written as b:80/,
  ],
  [
    'DENY of everybody',
    '{action: DENY, rules: [{}]}',
    '{action: DENY, rules: [{from: [{source: {ipBlocks: [0.0.0.0/0, "::/0"]}}]}]}',
    /denies everybody: written as every address/,
  ],
  [
    'namespaces that DENY names',
    '{action: DENY, rules: [{from: [{source: {namespaces: [a]}}, {source: {principals: ["*"]}}], when: [{key: source.serviceAccount, values: [b]}]}]}',
    `{action: DENY, rules: [
      {from: [{source: {namespaces: [a]}}, {source: {principals: ["*"]}}], when: [{key: source.serviceAccount, values: [shop/b]}]},
      {from: [{source: {notTrustDomains: [cluster.local]}}, {source: {principals: ["*"]}}], when: [{key: source.trustDomain, notValues: [cluster.local]}]}]}`,
    /denies callers of other trust domains than cluster\.local too/,
  ],
]
for (const [what, spec, ours, note] of OTHERWISE)
  t.test(`what means something else is written otherwise: ${what}`, async t => {
    const { spec: converted, err } = await specOf(t, istio(spec))
    t.same(converted, parseYaml(ours))
    t.match(err.replace(/^methods, paths.*\n/m, ''), note)
  })

t.test('dry runs, modes, and what says nothing', async t => {
  const dry = { more: ', annotations: {istio.io/dry-run: "true"}' }
  t.same((await specOf(t, istio('{rules: [{}]}', dry))).spec, { action: 'ALLOW', dryRun: true, rules: [{}] })
  t.same((await specOf(t, istio('{action: AUDIT, rules: [{}]}', dry))).spec, { action: 'AUDIT', rules: [{}] })
  const peer = { kind: 'PeerAuthentication' }
  const ports =
    '{selector: {matchLabels: {a: b}}, mtls: {mode: UNSET}, portLevelMtls: {"80": {mode: PERMISSIVE}, 81: {mode: UNSET}}}'
  t.same((await specOf(t, istio(ports, peer))).spec, {
    selector: { matchLabels: { a: 'b' } },
    portLevelMtls: { 80: { mode: 'PERMISSIVE' } },
  })
  const nothing = istio('{action: DENY}', { name: 'y' }) + istio('{mtls: {mode: UNSET}}', peer) + istio('{}')
  const { code, out, err } = await converting(t, nothing)
  t.equal(code, 0)
  t.match(
    err,
    /shop\/y: spec: DENY without rules matches nothing: left out\n.*sets no mode, and inherits it: left out/,
  )
  t.same(Object.keys(parseYaml(out).data), ['authorizationpolicy.x.yaml'])
})

t.test('lists as kubectl prints them, a ConfigMap for each namespace, and Istio’s root is ours', async t => {
  const object = (namespace: string, name: string) => ({
    apiVersion: 'security.istio.io/v1beta1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace, resourceVersion: '7' },
    spec: {},
    status: {},
  })
  const other = { apiVersion: 'networking.istio.io/v1', kind: 'VirtualService', metadata: { name: 'v' } }
  const items = [
    object('shop', 'a'),
    object('istio-system', 'b'),
    object('shop', 'c'),
    other,
    { kind: 'Pod' },
  ]
  const { out, err } = await converting(
    t,
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items }),
    '--name',
    'n',
  )
  const configMaps = parseAllDocuments(out).map(document => document.toJS())
  t.same(
    configMaps.map(({ metadata, data }) => [metadata, Object.keys(data)]),
    [
      [
        { name: 'n', namespace: 'shop', labels: { 'postern.dev/policy': 'true' } },
        ['authorizationpolicy.a.yaml', 'authorizationpolicy.c.yaml'],
      ],
      [
        { name: 'n', namespace: 'postern-system', labels: { 'postern.dev/policy': 'true' } },
        ['authorizationpolicy.b.yaml'],
      ],
    ],
  )
  t.equal(err, 'items[3]: VirtualService is no policy: left alone\n')
  const big = Array.from({ length: 3 }, (_, index) => {
    const paths = Array.from({ length: 2000 }, (_, path) => `/some/long/path/of/its/own/${index}/${path}`)
    return { ...object('shop', `p${index}`), spec: { rules: [{ to: [{ operation: { paths } }] }] } }
  })
  const json = await Promise.all(big.map(one => converting(t, JSON.stringify(one), '--json')))
  t.ok(json.every(({ code }) => code === 0))
})

const NO_EQUAL: readonly (readonly [what: string, text: string, says: RegExp])[] = [
  [
    'CUSTOM',
    istio('{action: CUSTOM, provider: {name: x}, rules: [{}]}'),
    /:9:\d+: spec\.provider: has no equal(.|\n)*spec\.action: CUSTOM has no equal/,
  ],
  ['targetRefs', istio('{targetRefs: [{kind: Gateway, name: x}]}'), /spec\.targetRefs: has no equal/],
  [
    'remote addresses',
    istio('{action: DENY, rules: [{from: [{source: {notRemoteIpBlocks: [10.0.0.0/8]}}]}]}'),
    /:9:\d+: spec\.rules\[0\]\.from\[0\]\.source\.notRemoteIpBlocks: would believe x-forwarded-for/,
  ],
  [
    'conditions',
    istio(
      '{rules: [{when: [{key: connection.sni, values: [a]}, {key: remote.ip, values: [10.0.0.1]}, {key: experimental.envoy.x, values: [a]}]}]}',
    ),
    /when\[0\]\.key: connection\.sni is not known(.|\n)*when\[1\]\.key: remote\.ip would believe(.|\n)*when\[2\]\.key: experimental/,
  ],
  [
    'a claim that is a list to Istio',
    istio('{action: DENY, rules: [{when: [{key: "request.auth.claims[permission]", values: [a]}]}]}'),
    /is a list with blanks to Istio/,
  ],
  [
    'a path of no request',
    istio('{rules: [{to: [{operation: {paths: ["/a/../b"]}}]}]}'),
    /paths\[0\]: "\/a\/\.\.\/b" is not in the normal form/,
  ],
  [
    'a host suffix that is a port',
    istio('{action: DENY, rules: [{to: [{operation: {hosts: ["*80"]}}]}]}'),
    /hosts\[0\]: \*80 has no equal/,
  ],
  [
    'DISABLE',
    istio('{mtls: {mode: DISABLE}}', { kind: 'PeerAuthentication' }),
    /spec\.mtls\.mode: DISABLE is not supported/,
  ],
  [
    'the root’s workloads alone',
    istio('{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}}', {
      kind: 'PeerAuthentication',
      namespace: 'istio-system',
    }),
    /spec\.selector: a mesh-wide PeerAuthentication selects every pod/,
  ],
  [
    'RequestAuthentication',
    istio('{}', { kind: 'RequestAuthentication' }),
    /kind: RequestAuthentication of .* is not converted/,
  ],
  [
    'another version',
    istio('{}').replace('/v1', '/v1alpha1'),
    /AuthorizationPolicy of security\.istio\.io\/v1alpha1 is not converted/,
  ],
  ['an unknown field', istio('{rules: [{form: []}]}'), /spec\.rules\[0\]\.form: unknown field/],
  ['no name', istio('{}').replace('name: x', 'a: b'), /does not say its name/],
]
for (const [what, text, says] of NO_EQUAL)
  t.test(`what has no equal is named by its place, and nothing is printed: ${what}`, async t => {
    const { code, out, err } = await converting(t, istio('{}', { name: 'fine' }) + text)
    t.match(err, says)
    t.same([code, out], [1, ''])
  })

t.test('what makes no sense ends with 2', async t => {
  t.match(await typedAlone(['policy', 'convert'], [policyConvert]), { code: 2, err: /at least one file/ })
  t.match(await converting(t, 'kind: Pod\n'), { code: 2, err: /no policy of Istio/ })
  t.match(await converting(t, istio('{}') + istio('{}')), {
    code: 2,
    err: /AuthorizationPolicy shop\/x is there twice/,
  })
  t.match(await converting(t, istio('{}'), '--name', 'A'), { code: 2, err: /--name is no name/ })
})
