import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { policyTest } from '../../../../cli/policy/test.ts'
import { typedAlone } from '../../../support/command-line.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const ORDERS = `apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from:
    - source: {serviceAccounts: [web], principals: ["*"]}
    to:
    - operation: {ports: ["8080"], methods: [GET], paths: ["/orders/{*}"], hosts: [orders]}
    when:
    - {key: "request.headers[x-role]", values: [reader]}
`
const suite = (tests: string, rest = '') =>
  `policies: [orders.yaml]\npod: {namespace: shop, labels: {app: orders}}\n${rest}\ntests:\n${tests}`
const request = (fields: string) => `request: {host: Orders, headers: {X-Role: reader}, ${fields}}`
const one = (from: string, more: string) => `- {name: it, from: {${from}}, port: 8080, ${more}}\n`

async function testing(t: Test, text: string, ...options: string[]) {
  const directory = scratchDirectory(t)
  writeFileSync(join(directory, 'orders.yaml'), ORDERS)
  writeFileSync(join(directory, 'test.yaml'), text)
  return typedAlone(['policy', 'test', join(directory, 'test.yaml'), ...options], [policyTest])
}

const DECISIONS: readonly (readonly [what: string, test: string])[] = [
  [
    'as the sidecar',
    one('serviceAccount: shop/web', `${request('path: /orders/7?x=1')}, expect: allow, by: shop/orders`),
  ],
  ['with normal forms', one('serviceAccount: shop/web', `${request('path: /orders//%37')}, expect: allow`)],
  ['what is below', one('serviceAccount: shop/web', `${request('path: /orders/7/x')}, expect: deny`)],
  ['both readings', one('serviceAccount: shop/web', `${request('path: "/orders/7;x"')}, expect: allow`)],
  [
    'a path that no sidecar forwards',
    one('serviceAccount: shop/web', `${request('path: /orders/%2f')}, expect: deny`),
  ],
  [
    'another method',
    one('serviceAccount: shop/web', `${request('method: PUT, path: /orders/7')}, expect: deny`),
  ],
  [
    'another caller',
    one('principal: spiffe://cluster.local/ns/shop/sa/x', `${request('path: /orders/7')}, expect: deny`),
  ],
  ['plaintext', one('plaintext: true, address: 10.0.0.1', `${request('path: /orders/7')}, expect: deny`)],
  ['opaque bytes', one('serviceAccount: shop/web', 'expect: deny')],
]
for (const [what, test] of DECISIONS)
  t.test(`a test is decided on: ${what}`, async t => {
    const { code, out } = await testing(t, suite(test))
    t.equal(code, 0, out)
    t.match(out, /^ok {4}it: .*\n1 passed, 0 failed\n$/)
    const turned = test.includes('expect: allow') ? 'expect: deny' : 'expect: allow'
    const control = await testing(t, suite(test.replace(/expect: \w+/, turned)))
    t.equal(control.code, 1)
    t.match(control.out, /^FAIL {2}it: expected \w+, but .*\n0 passed, 1 failed\n$/)
  })

t.test('who decides may be expected too, and the mesh’s settings are the file’s', async t => {
  const by = one('serviceAccount: shop/web', `${request('path: /orders/7')}, expect: allow, by: shop/other`)
  t.match(await testing(t, suite(by)), { code: 1, out: /but allowed by shop\/orders, rule 0/ })
  const other = 'policies: [orders.yaml]\npod: {namespace: shop}\ndefaultAction: deny\ntests:\n'
  const plain = one('plaintext: true', 'expect: deny')
  t.match(await testing(t, other + plain), { code: 0, out: /PSTN_POLICY_DENIED/ })
  t.match(await testing(t, `mode: strict\n${other}${plain}`), { code: 0, out: /PSTN_PLAINTEXT_REFUSED/ })
  const json = await testing(t, suite(by), '--json')
  t.match(JSON.parse(json.out), { results: [{ name: 'it', passed: false, verdict: { allow: true } }] })
})

t.test('what is wrong with a file of tests, or with its policies, is told by its place', async t => {
  const wrong: readonly (readonly [string, RegExp])[] = [
    [suite('- {name: it}'), /test\.yaml:5:3: tests\[0\]\.from: is empty, not a mapping/],
    [suite(one('', 'expect: allow')), /does not say who calls/],
    [suite(one('serviceAccount: web', 'expect: allow')), /write <namespace>\/<service account>/],
    [suite(one('plaintext: false', 'expect: allow')), /unknown value "false"/],
    [suite(one('plaintext: true', 'expect: alow')), /did you mean allow\?/],
    [suite(one('plaintext: true', 'expect: deny'), 'trustDomain: A'), /write a trust domain/],
    [
      'policies: [test.yaml]\npod: {namespace: shop}\ntests:\n- {name: it, from: {plaintext: true}, port: 1, expect: deny}',
      /no policy in/,
    ],
  ]
  for (const [text, says] of wrong) {
    const { code, out, err } = await testing(t, text)
    t.match(out + err, says)
    t.not(code, 0)
  }
})
