import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { policyExplain } from '../../../../cli/policy/explain.ts'
import { typedAlone } from '../../../support/command-line.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const document = (name: string, spec: string) =>
  `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}}\nspec:\n${spec}---\n`

const POLICIES = [
  document(
    'orders',
    `  selector: {matchLabels: {app: orders}}
  rules:
  - from:
    - source: {serviceAccounts: [web]}
    to:
    - operation: {ports: ["8080"], methods: [GET], paths: ["/orders/{*}"]}
    when:
    - {key: "request.headers[x-role]", values: [reader]}
`,
  ),
  document('no-tests', '  action: DENY\n  rules: [{from: [{source: {namespaces: ["test-*"]}}]}]\n'),
  document('seen', '  action: AUDIT\n  rules: [{to: [{operation: {methods: [POST]}}]}]\n'),
  document('soon', '  action: DENY\n  dryRun: true\n  rules: [{to: [{operation: {hosts: [old]}}]}]\n'),
].join('')

async function explaining(t: Test, ...words: string[]) {
  const file = join(scratchDirectory(t), 'policies.yaml')
  writeFileSync(file, POLICIES)
  const files = ['--files', file, '--namespace', 'shop', '--label', 'app=orders']
  return typedAlone(['policy', 'explain', ...files, ...words], [policyExplain])
}

t.test('each rule is told with the part that does not match, and then the decision', async t => {
  const { code, out, asked } = await explaining(
    t,
    ...['--from', 'shop/web', '--port', '8080', '--method', 'POST', '--path', '/orders/7?x'],
  )
  t.same([code, asked], [0, 0])
  t.equal(
    out,
    `asked as a request for /orders/7

DENY shop/no-tests
  rule 0 does not match
    from[0] does not match: namespaces [test-*]: the caller’s is shop

ALLOW shop/orders
  rule 0 does not match
    from[0] matches
    to[0] does not match: methods [GET]: the caller’s is POST
    when[0] does not match: request.headers[x-role] [reader]: the caller’s is none

AUDIT shop/seen
  rule 0 matches
    to[0] matches

DENY shop/soon, dry run: decides nothing
  rule 0 matches
    to[0] matches: not known, which never helps: hosts
recorded: audit by shop/seen, rule 0
denied with PSTN_POLICY_DENIED by shop/orders: no rule of an ALLOW policy matches: shop/orders
`,
  )
})

t.test('what is allowed, what is not known, and what no sidecar forwards', async t => {
  const get = ['--from', 'shop/web', '--port', '8080', '--header', 'X-Role=reader', '--host', 'old']
  const allowed = await explaining(t, ...get, '--path', '/orders/%37;v=1')
  t.match(allowed.out, /^asked as a request for \/orders\/7\n/, 'the second reading decides')
  t.match(allowed.out, /recorded: the dry runs in force, it would be denied with .* by shop\/soon, rule 0/)
  t.match(
    allowed.out,
    /\nallowed by shop\/orders, rule 0\nif the port carries opaque bytes: denied with .*\n$/,
  )
  const bytes = await explaining(t, '--from', 'shop/web', '--port', '8080')
  t.match(
    bytes.out,
    /\ndenied with .*\nif the port speaks HTTP, some request of this caller passes: each is decided on\n$/,
  )
  const plain = await explaining(t, '--from', 'plaintext', '--port', '8080')
  t.match(plain.out, /opaque bytes/)
  t.match(plain.out, /from\[0\] matches: not known, which never helps: namespaces/)
  t.match(plain.out, /serviceAccounts \[shop\/web\]: not known, which never helps/)
  t.match(plain.out, /denied with PSTN_POLICY_DENIED by shop\/no-tests, rule 0/)
  const strict = await explaining(t, '--from', 'plaintext', '--port', '8080', '--mode', 'strict')
  t.match(strict.out, /the mode refuses it before any policy is asked/)
  t.match(strict.out, /\ndenied with PSTN_PLAINTEXT_REFUSED: port 8080 is in strict mode\n$/)
  t.match((await explaining(t, ...get, '--path', '/%2f')).out, /^denied with PSTN_HTTP_MALFORMED/)
  const json = JSON.parse((await explaining(t, ...get, '--path', '/orders/7', '--json')).out)
  t.match(json, { decision: { allow: true, policy: 'shop/orders', rule: 0 }, explanation: { policies: [] } })
})

t.test('a token is typed as its claims', async t => {
  const claims = ['--claim', 'iss=https://i', '--claim', 'sub=ada', '--claim', 'account=7']
  const { out } = await explaining(t, '--from', 'shop/web', '--port', '1', ...claims, '--json')
  t.match(JSON.parse(out), { path: '/' })
  const rule =
    '{to: [{operation: {paths: ["/a/{id}"]}}], when: [{key: "request.path[id]", equals: "request.auth.claims[account]"}]}'
  const file = join(scratchDirectory(t), 'owned.yaml')
  writeFileSync(file, document('owned', `  rules: [${rule}]\n`))
  const asking = (path: string) =>
    typedAlone(
      ['policy', 'explain', '--files', file, '--from', 'shop/web', '--port', '1', '--path', path, ...claims],
      [policyExplain],
    )
  t.match((await asking('/a/7')).out, /\nallowed by default\/owned, rule 0\n/)
  t.match(
    (await asking('/a/8')).out,
    /request\.path\[id\] \[request\.auth\.claims\[account\]\]: the caller’s is \/a\/8/,
  )
})

t.test('what makes no sense ends with 2, and says which option', async t => {
  const wrong: readonly (readonly [words: readonly string[], says: RegExp])[] = [
    [['--port', '1'], /--from is empty/],
    [['--from', 'web', '--port', '1'], /--from "web" is not valid; write <namespace>/],
    [['--from', 'plaintext'], /--port .* is not a port/],
    [['--from', 'plaintext', '--port', '1', '--method', 'get'], /--method "get" is not valid/],
    [['--from', 'plaintext', '--port', '1', '--header', 'x'], /--header x is not <name>=<value>/],
    [['--from', 'plaintext', '--port', '1', '--address', 'x'], /--address "x" is not valid/],
    [['--from', 'plaintext', '--port', '1', '--mode', 'x'], /--mode is permissive or strict/],
    [['--from', 'plaintext', '--port', '1', '--trust-domain', 'A'], /--trust-domain A is no trust domain/],
    [['shop/orders'], /leave one out/],
  ]
  for (const [words, says] of wrong) {
    const { code, err } = await explaining(t, ...words)
    t.match(err, says)
    t.equal(code, 2)
  }
  const without = (...words: string[]) => typedAlone(['policy', 'explain', ...words], [policyExplain])
  t.match(await without(), { code: 2, err: /name one <namespace>\/<pod>, or give --files/ })
  t.match(await without('a/b', '--mode', 'strict'), { code: 2, err: /--mode belongs to --files/ })
  t.match(await without('a/b'), { code: 1, err: /no cluster/, asked: 1 })
})
