import t from 'tap'
import { describeProblem } from '../../../../shared/policy/document.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'

const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }

const parse = (text: string, origin = ORIGIN) =>
  parsePolicyConfigMap({ data: { 'policy.yaml': text } }, origin)

const problems = (text: string, origin = ORIGIN): string[] => {
  const parsed = parse(text, origin)
  return parsed.kind === 'invalid' ? parsed.problems.map(describeProblem) : []
}

const document = (kind: string, spec: string) =>
  `apiVersion: policy.postern.dev/v1\nkind: ${kind}\nmetadata: {name: orders}\n${spec}`
const authorization = (spec: string) => document('AuthorizationPolicy', spec)
const peerAuthentication = (spec: string) => document('PeerAuthentication', spec)

t.test('a full AuthorizationPolicy is normalized', async t => {
  const text = authorization(`spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules:
  - from:
    - source:
        principals: [spiffe://cluster.local/ns/shop/sa/web, cluster.local/ns/bank/sa/web, "*/sa/cron", "spiffe://partner/*", "*"]
        notNamespaces: [bank, "test-*"]
        serviceAccounts: [web, bank/web]
    to:
    - operation: {ports: ["8080", 8081], notPorts: [9090]}
  - to:
    - operation: {ports: [22]}
`)
  t.strictSame(parse(text), {
    kind: 'valid',
    documents: [
      {
        kind: 'AuthorizationPolicy',
        namespace: 'shop',
        selector: { app: 'orders' },
        policy: {
          kind: 'AuthorizationPolicy',
          name: 'shop/orders',
          action: 'DENY',
          rules: [
            {
              from: [
                {
                  principals: [
                    'cluster.local/ns/shop/sa/web',
                    'cluster.local/ns/bank/sa/web',
                    '*/sa/cron',
                    'partner/*',
                    '*',
                  ],
                  notNamespaces: ['bank', 'test-*'],
                  serviceAccounts: ['shop/web', 'bank/web'],
                },
              ],
              to: [{ ports: [8080, 8081], notPorts: [9090] }],
            },
            { to: [{ ports: [22] }] },
          ],
          features: ['l4'],
        },
      },
    ],
  })
})

t.test('HTTP fields are normalized, and say that a sidecar must know them', async t => {
  const operation = `{ports: [80], methods: [GET, "P*"], notMethods: ["*"], paths: [/a, "/b/*", "*.jpg"],
    notPaths: ["*"], hosts: [Orders.Shop, "*.shop:8080", "x:*"], notHosts: ["[FD00::1]"]}`
  t.match(
    parse(authorization(`spec: {rules: [{to: [{operation: {ports: [1]}}, {operation: ${operation}}]}]}`)),
    {
      documents: [
        {
          policy: {
            rules: [
              {
                to: [
                  { ports: [1] },
                  {
                    ports: [80],
                    methods: ['GET', 'P*'],
                    notMethods: ['*'],
                    paths: ['/a', '/b/*', '*.jpg'],
                    notPaths: ['*'],
                    hosts: ['orders.shop', '*.shop:8080', 'x'],
                    notHosts: ['[fd00::1]'],
                  },
                ],
              },
            ],
            features: ['l4', 'http'],
          },
        },
      ],
    },
  )
})

t.test('ALLOW is the default action, and no rules means that nothing is allowed', async t => {
  for (const spec of ['spec: {}', 'spec: {rules: []}', 'spec: {action: ALLOW}'])
    t.match(parse(authorization(spec)), { documents: [{ policy: { action: 'ALLOW', rules: [] } }] }, spec)
})

t.test('an empty rule of an ALLOW policy is Istio’s spelling of everybody', async t => {
  t.match(parse(authorization('spec: {rules: [{}]}')), { documents: [{ policy: { rules: [{}] } }] })
})

t.test('PeerAuthentication for a namespace, a workload and a port', async t => {
  t.strictSame(parse(peerAuthentication('spec: {mtls: {mode: STRICT}}')), {
    kind: 'valid',
    documents: [
      { kind: 'PeerAuthentication', namespace: 'shop', name: 'shop/orders', mode: 'strict', ports: {} },
    ],
  })
  const text = peerAuthentication(
    'spec: {selector: {matchLabels: {app: db}}, portLevelMtls: {5432: {mode: PERMISSIVE}, "80": {mode: STRICT}}}',
  )
  t.match(parse(text), {
    documents: [{ selector: { app: 'db' }, ports: { 5432: 'permissive', 80: 'strict' }, mode: undefined }],
  })
})

t.test('PeerAuthentication for ports with TLS', async t => {
  const text = peerAuthentication(
    'spec: {selector: {matchLabels: {app: db}}, portLevelTls: {8443: {mode: MUTUAL}, "8444": {mode: SERVER}}}',
  )
  t.match(parse(text), {
    documents: [{ mode: undefined, ports: {}, tls: { 8443: 'mutual', 8444: 'server' } }],
  })
})

t.test('foreigners are named by trust domain, or by an ID of any form', async t => {
  const source =
    'principals: ["spiffe://partner.example/billing/api"], notTrustDomains: ["*.test", partner.two]'
  t.match(parse(authorization(`spec: {rules: [{from: [{source: {${source}}}]}]}`)), {
    documents: [
      {
        policy: {
          features: ['l4', 'trustDomains'],
          rules: [
            {
              from: [
                { principals: ['partner.example/billing/api'], notTrustDomains: ['*.test', 'partner.two'] },
              ],
            },
          ],
        },
      },
    ],
  })
})

t.test('several documents in one file, with empty ones between', async t => {
  const parsed = parse(
    `---\n${authorization('spec: {}')}\n---\n---\n${peerAuthentication('spec: {mtls: {mode: STRICT}}')}`,
  )
  t.match(parsed, { documents: [{ kind: 'AuthorizationPolicy' }, { kind: 'PeerAuthentication' }] })
})

t.test('everything that is wrong is named at once, by line, column and path', async t => {
  const text = authorization(`spec:
  selektor: {matchLabels: {app: orders}}
  action: ALOW
`).concat(`---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicies
metadata: {name: Shop, namespace: bank}
---
${authorization(`spec:
  rules:
  - from:
    - source:
        principals: []
        serviceAccount: [web]
  - to:
    - operation:
        ports: [0, http]
`)}`)
  t.same(problems(text), [
    'policy.yaml:5:3: spec.selektor: unknown field; did you mean selector?; fields: selector, action, rules, dryRun',
    'policy.yaml:8:1: apiVersion: "security.istio.io/v1" is not valid; write apiVersion: policy.postern.dev/v1',
    'policy.yaml:9:1: kind: unknown value "AuthorizationPolicies"; did you mean AuthorizationPolicy?; write AuthorizationPolicy or PeerAuthentication or RequestAuthentication or OutsideHost',
    'policy.yaml:10:24: metadata.namespace: "bank" is not the ConfigMap’s namespace shop; a policy holds in the namespace of its ConfigMap; leave this out',
    'policy.yaml:10:12: metadata.name: "Shop" is not valid; write a name of lower-case letters, digits, - and .',
    'policy.yaml:20:9: spec.rules[0].from[0].source.serviceAccount: unknown field; did you mean serviceAccounts?; fields: principals, notPrincipals, namespaces, notNamespaces, serviceAccounts, notServiceAccounts, trustDomains, notTrustDomains, ipBlocks, notIpBlocks, requestPrincipals, notRequestPrincipals',
    'policy.yaml:23:17: spec.rules[1].to[0].operation.ports[0]: 0 is not a port; write a port from 1 to 65535',
    'policy.yaml:23:20: spec.rules[1].to[0].operation.ports[1]: "http" is not a port; write a port from 1 to 65535',
  ])
})

/** Each spec is refused with exactly one problem, at the path and with the reason given. */
const REFUSED: readonly (readonly [it: string, text: string, path: string, reason: RegExp])[] = [
  [
    'an empty rule of a DENY policy',
    authorization('spec: {action: DENY, rules: [{}]}'),
    'spec.rules[0]',
    /denies everybody/,
  ],
  ['a DENY policy without rules', authorization('spec: {action: DENY}'), 'spec', /denies nothing/],
  ['a null rule', authorization('spec:\n  rules:\n  -\n'), 'spec.rules[0]', /is empty, not a mapping/],
  ['an empty from', authorization('spec: {rules: [{from: []}]}'), 'spec.rules[0].from', /is empty/],
  ['an empty to', authorization('spec: {rules: [{to: []}]}'), 'spec.rules[0].to', /is empty/],
  [
    'a from entry without source',
    authorization('spec: {rules: [{from: [{}]}]}'),
    'spec.rules[0].from[0]',
    /has no source/,
  ],
  [
    'an empty source',
    authorization('spec: {rules: [{from: [{source: {}}]}]}'),
    'spec.rules[0].from[0].source',
    /would mean everybody/,
  ],
  [
    'an empty operation',
    authorization('spec: {rules: [{to: [{operation: {}}]}]}'),
    'spec.rules[0].to[0].operation',
    /would mean every port/,
  ],
  [
    'an empty list of principals',
    authorization('spec: {rules: [{from: [{source: {principals: []}}]}]}'),
    'spec.rules[0].from[0].source.principals',
    /is empty/,
  ],
  [
    'a scalar where a list belongs',
    authorization('spec: {rules: [{from: [{source: {namespaces: shop}}]}]}'),
    'spec.rules[0].from[0].source.namespaces',
    /not a list/,
  ],
  [
    'a star in the middle',
    authorization('spec: {rules: [{from: [{source: {principals: ["cluster.local/*/sa/web"]}}]}]}'),
    'spec.rules[0].from[0].source.principals[0]',
    /is not valid/,
  ],
  [
    'a star at both ends',
    authorization('spec: {rules: [{from: [{source: {namespaces: ["*x*"]}}]}]}'),
    'spec.rules[0].from[0].source.namespaces[0]',
    /is not valid/,
  ],
  [
    'a principal that is no workload',
    authorization('spec: {rules: [{from: [{source: {principals: [shop/web]}}]}]}'),
    'spec.rules[0].from[0].source.principals[0]',
    /is not valid/,
  ],
  [
    'a principal with the scheme alone',
    authorization('spec: {rules: [{from: [{source: {principals: ["spiffe://"]}}]}]}'),
    'spec.rules[0].from[0].source.principals[0]',
    /is not valid/,
  ],
  [
    'an ID of another form without its scheme',
    authorization('spec: {rules: [{from: [{source: {principals: [partner.example/billing]}}]}]}'),
    'spec.rules[0].from[0].source.principals[0]',
    /is not valid/,
  ],
  [
    'a trust domain in capitals',
    authorization('spec: {rules: [{from: [{source: {trustDomains: [Partner.example]}}]}]}'),
    'spec.rules[0].from[0].source.trustDomains[0]',
    /is not valid/,
  ],
  [
    'a wildcard in a service account',
    authorization('spec: {rules: [{from: [{source: {serviceAccounts: ["shop/*"]}}]}]}'),
    'spec.rules[0].from[0].source.serviceAccounts[0]',
    /is not valid/,
  ],
  [
    'a port out of range',
    authorization('spec: {rules: [{to: [{operation: {ports: ["65536"]}}]}]}'),
    'spec.rules[0].to[0].operation.ports[0]',
    /is not a port/,
  ],
  [
    'a fractional port',
    authorization('spec: {rules: [{to: [{operation: {ports: [80.5]}}]}]}'),
    'spec.rules[0].to[0].operation.ports[0]',
    /is not a port/,
  ],
  [
    'a selector without labels',
    authorization('spec: {selector: {matchLabels: {}}}'),
    'spec.selector.matchLabels',
    /selects by no label/,
  ],
  [
    'a selector by expressions',
    authorization('spec: {selector: {matchExpressions: []}}'),
    'spec.selector.matchExpressions',
    /unknown field/,
  ],
  [
    'a label that is no string',
    authorization('spec: {selector: {matchLabels: {app: 1}}}'),
    'spec.selector.matchLabels.app',
    /is no label/,
  ],
  ['an AUDIT without rules', authorization('spec: {action: AUDIT}'), 'spec', /records nothing/],
  [
    'a dry run of an AUDIT',
    authorization('spec: {action: AUDIT, dryRun: true, rules: [{}]}'),
    'spec.dryRun',
    /decides nothing in any case/,
  ],
  [
    'a dry run that is no boolean',
    authorization('spec: {dryRun: "yes"}'),
    'spec.dryRun',
    /neither true nor false/,
  ],
  [
    'the action CUSTOM',
    authorization('spec: {action: CUSTOM}'),
    'spec.action',
    /CUSTOM is not supported yet/,
  ],
  ['no condition', authorization('spec: {rules: [{when: []}]}'), 'spec.rules[0].when', /is empty/],
  [
    'a condition that nobody knows',
    authorization('spec: {rules: [{when: [{key: source.name, values: [a]}]}]}'),
    'spec.rules[0].when[0].key',
    /is no condition/,
  ],
  [
    'a condition that asks nothing',
    authorization('spec: {rules: [{when: [{key: source.ip}]}]}'),
    'spec.rules[0].when[0]',
    /neither values nor notValues/,
  ],
  [
    'a condition on what any caller may write',
    authorization('spec: {rules: [{when: [{key: remote.ip, values: [10.0.0.1]}]}]}'),
    'spec.rules[0].when[0].key',
    /x-forwarded-for/,
  ],
  [
    'a condition on the host, past the normal form of hosts',
    authorization('spec: {rules: [{when: [{key: "request.headers[Host]", values: [a]}]}]}'),
    'spec.rules[0].when[0].key',
    /is read by hosts/,
  ],
  [
    'a condition on the header that the sidecar writes',
    authorization(
      'spec: {rules: [{when: [{key: "request.headers[X-Forwarded-Client-Cert]", values: [a]}]}]}',
    ),
    'spec.rules[0].when[0].key',
    /written by the sidecar/,
  ],
  [
    'a header value that no header has',
    authorization('spec: {rules: [{when: [{key: "request.headers[x]", values: ["a "]}]}]}'),
    'spec.rules[0].when[0].values[0]',
    /is not valid/,
  ],
  [
    'a value of a condition that is none of its kind',
    authorization('spec: {rules: [{when: [{key: destination.port, notValues: [http]}]}]}'),
    'spec.rules[0].when[0].notValues[0]',
    /is not a port/,
  ],
  [
    'a template inside a segment',
    authorization('spec: {rules: [{to: [{operation: {paths: ["/a/x{*}"]}}]}]}'),
    'spec.rules[0].to[0].operation.paths[0]',
    /no whole segment/,
  ],
  [
    'a method of gRPC without its service',
    authorization('spec: {rules: [{to: [{operation: {grpcMethods: [Refund]}}]}]}'),
    'spec.rules[0].to[0].operation.grpcMethods[0]',
    /is not valid/,
  ],
  [
    'methods of gRPC beside paths',
    authorization('spec: {rules: [{to: [{operation: {grpcMethods: [a.B/C], paths: [/x]}}]}]}'),
    'spec.rules[0].to[0].operation.grpcMethods',
    /paths are given too/,
  ],
  [
    'a method in small letters',
    authorization('spec: {rules: [{to: [{operation: {methods: [get]}}]}]}'),
    'spec.rules[0].to[0].operation.methods[0]',
    /"get" is not valid/,
  ],
  [
    'a path that is not in its normal form',
    authorization('spec: {rules: [{to: [{operation: {paths: [/a, /a//b]}}]}]}'),
    'spec.rules[0].to[0].operation.paths[1]',
    /normal form/,
  ],
  [
    'a path that is no text',
    authorization('spec: {rules: [{to: [{operation: {notPaths: [1]}}]}]}'),
    'spec.rules[0].to[0].operation.notPaths[0]',
    /is the number 1/,
  ],
  [
    'an empty path',
    authorization('spec: {rules: [{to: [{operation: {paths: [""]}}]}]}'),
    'spec.rules[0].to[0].operation.paths[0]',
    /is not valid/,
  ],
  [
    'a host that is a URL',
    authorization('spec: {rules: [{to: [{operation: {hosts: ["http://orders"]}}]}]}'),
    'spec.rules[0].to[0].operation.hosts[0]',
    /is not valid/,
  ],
  [
    'an empty list of hosts',
    authorization('spec: {rules: [{to: [{operation: {notHosts: []}}]}]}'),
    'spec.rules[0].to[0].operation.notHosts',
    /is empty/,
  ],
  [
    'an IP block with host bits',
    authorization('spec: {rules: [{from: [{source: {ipBlocks: [10.0.0.1/8]}}]}]}'),
    'spec.rules[0].from[0].source.ipBlocks[0]',
    /not in canonical form/,
  ],
  [
    'an IP block that is none',
    authorization('spec: {rules: [{from: [{source: {notIpBlocks: [10.0.0.0/33]}}]}]}'),
    'spec.rules[0].from[0].source.notIpBlocks[0]',
    /is not valid/,
  ],
  [
    'addresses that a header names',
    authorization('spec: {rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]}'),
    'spec.rules[0].from[0].source.remoteIpBlocks',
    /not supported yet/,
  ],
  ['a missing spec', authorization(''), 'spec', /is empty, not a mapping/],
  [
    'an annotation that might mean a dry run',
    'apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: x, annotations: {istio.io/dry-run: "true"}}\nspec: {}',
    'metadata.annotations',
    /not supported yet/,
  ],
  [
    'a missing name',
    'apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {}\nspec: {}',
    'metadata.name',
    /is empty/,
  ],
  ['a document that is a list', '- a\n', '', /is a list, not a mapping/],
  ['a mode that sets nothing', peerAuthentication('spec: {}'), 'spec', /sets no mode/],
  [
    'an unknown mode',
    peerAuthentication('spec: {mtls: {mode: strict}}'),
    'spec.mtls.mode',
    /did you mean STRICT/,
  ],
  ['an absent mode', peerAuthentication('spec: {mtls: {}}'), 'spec.mtls.mode', /is empty/],
  [
    'the mode DISABLE',
    peerAuthentication('spec: {mtls: {mode: DISABLE}}'),
    'spec.mtls.mode',
    /DISABLE is not supported/,
  ],
  [
    'port modes without a selector',
    peerAuthentication('spec: {portLevelMtls: {80: {mode: STRICT}}}'),
    'spec.portLevelMtls',
    /has no selector/,
  ],
  [
    'no port modes',
    peerAuthentication('spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {}}'),
    'spec.portLevelMtls',
    /names no port/,
  ],
  [
    'a port mode of no port',
    peerAuthentication('spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}'),
    'spec.portLevelMtls.http',
    /is not a port/,
  ],
  [
    'TLS ports without a selector',
    peerAuthentication('spec: {portLevelTls: {8443: {mode: MUTUAL}}}'),
    'spec.portLevelTls',
    /has no selector/,
  ],
  [
    'a mode of a TLS port that is one of other ports',
    peerAuthentication('spec: {selector: {matchLabels: {a: b}}, portLevelTls: {8443: {mode: STRICT}}}'),
    'spec.portLevelTls.8443.mode',
    /unknown value "STRICT"/,
  ],
  [
    'a port with TLS and another mode',
    peerAuthentication(
      'spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {8443: {mode: STRICT}}, portLevelTls: {8443: {mode: SERVER}}}',
    ),
    'spec.portLevelTls.8443',
    /is in portLevelMtls too/,
  ],
  [
    'TLS on a port of Postern',
    peerAuthentication('spec: {selector: {matchLabels: {a: b}}, portLevelTls: {15008: {mode: SERVER}}}'),
    'spec.portLevelTls.15008',
    /is Postern’s own/,
  ],
  ['nothing', '# nothing here\n', '', /holds no document/],
  ['a duplicate key', 'kind: a\nkind: b\n', '', /unique/],
  ['a tag', `${authorization('spec: !python/object {}')}`, '', /tag/],
  ['text that is no YAML', 'a: [1', '', /./],
  ['an unknown alias', authorization('spec: *nobody'), '', /alias/i],
]

for (const [it, text, path, reason] of REFUSED)
  t.test(`${it} is refused, once and in its place`, async t => {
    const parsed = parse(text)
    const found = parsed.kind === 'invalid' ? parsed.problems : []
    t.equal(found.length, 1, found.map(describeProblem).join('\n'))
    const [problem] = found
    t.equal(problem?.path, path)
    t.match(problem?.reason, reason)
    t.ok(problem?.hint, 'says what to write instead')
  })

t.test('a mesh-wide PeerAuthentication takes no selector', async t => {
  const text = peerAuthentication('spec: {selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}}')
  t.same(problems(text), [])
  t.match(problems(text, { ...ORIGIN, namespace: 'postern-system' }), [/selects every pod/])
})

t.test('aliases are allowed where they are few and refused where they multiply', async t => {
  const few = authorization(`spec:
  rules:
  - from: [{source: {namespaces: &ns [shop]}}]
  - from: [{source: {notNamespaces: *ns}}]
`)
  t.equal(parse(few).kind, 'valid')
  const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]']
  for (let level = 1; level < 9; level += 1) {
    const [name, before] = ['abcdefghi'.charAt(level), 'abcdefghi'.charAt(level - 1)]
    bomb.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(',')}]`)
  }
  t.match(problems(bomb.join('\n')), [/aliases/])
})

t.test('nesting deeper than the stack is a problem, not a crash', async t => {
  t.equal(parse('['.repeat(100_000)).kind, 'invalid')
})

t.test('a ConfigMap is read key by key, and one problem makes the whole invalid', async t => {
  const good = authorization('spec: {}')
  t.match(parsePolicyConfigMap({ data: { 'a.yaml': good } }, ORIGIN), { kind: 'valid', documents: [{}] })
  t.strictSame(parsePolicyConfigMap({ data: null }, ORIGIN), { kind: 'valid', documents: [] })
  const bad = parsePolicyConfigMap(
    { data: { 'a.yaml': good, 'b.yaml': 'x' }, binaryData: { c: 'AA==' } },
    ORIGIN,
  )
  t.match(bad, { kind: 'invalid', problems: [{ file: 'c' }, { file: 'b.yaml' }] })
})

t.test('two documents of one kind and name are refused', async t => {
  const twice = parsePolicyConfigMap(
    { data: { 'a.yaml': authorization('spec: {}'), 'b.yaml': authorization('spec: {}') } },
    ORIGIN,
  )
  t.match(twice, {
    kind: 'invalid',
    problems: [{ reason: /AuthorizationPolicy shop\/orders is written twice/ }],
  })
})

t.test('what anybody may send to the webhook costs no more than its length', async t => {
  const many = (value: string) =>
    Array.from({ length: 15_000 }, (_, index) => `k${index.toString(36)}: ${value}`).join(',')
  const began = performance.now()
  for (const [value, kind] of [
    ['a', 'valid'],
    ['"!"', 'invalid'],
  ] as const) {
    const text = authorization(`spec: {selector: {matchLabels: {${many(value)}}}, rules: [{}]}`)
    const parsed = parsePolicyConfigMap({ data: { file: text } }, ORIGIN)
    t.equal(parsed.kind, kind)
    if (parsed.kind === 'invalid')
      t.equal(parsed.problems.length, 100, 'the first hundred are enough to begin with')
  }
  t.ok(performance.now() - began < 10_000)
})

t.test('a ConfigMap that is longer than policies are is not read', async t => {
  const data = { a: ' '.repeat(200_000), b: ' '.repeat(100_000) }
  t.match(parsePolicyConfigMap({ data }, ORIGIN), {
    problems: [{ file: 'data', reason: /is 300000 characters long, more than 262144/ }],
  })
})
