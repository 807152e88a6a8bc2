// docs/zero-trust.md decides what it says: the table, by the evaluator, with each check failed alone. On real sidecars:
// test/netns/zero-trust.test.ts.
import { writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { policyTest } from '../../../../cli/policy/test.ts'
import { bind } from '../../../../shared/policy/bind.ts'
import { compile } from '../../../../shared/policy/compile.ts'
import type { EndUser } from '../../../../shared/policy/end-user.ts'
import { evaluate, refusedByMode } from '../../../../shared/policy/evaluate.ts'
import type { PolicyRequest } from '../../../../shared/policy/model.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'
import { typedAlone } from '../../../support/command-line.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const page = await readFile(new URL('../../../../docs/zero-trust.md', import.meta.url), 'utf8')
const [yaml = '', suite = ''] = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text)
const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }
const parsed = parsePolicyConfigMap({ data: { 'zero-trust.yaml': yaml } }, ORIGIN)
const documents = parsed.kind === 'valid' ? parsed.documents : []
const pod = { namespace: 'shop', labels: { app: 'orders' } }
const policy = compile(bind(documents, pod, ORIGIN), { trustDomain: 'cluster.local' })

const WEB = { identity: 'spiffe://cluster.local/ns/shop/sa/web', address: '10.0.0.7' }
const ADA: EndUser = { principal: 'https://id.example/ada', claims: { account: '42' } }
const http = { method: 'GET', host: 'orders', path: '/accounts/42/orders', user: ADA }
const GOOD = { caller: WEB, port: 8080, http }
const { user: _, ...withoutToken } = http

const decide = (request: PolicyRequest) => {
  const decision = refusedByMode(policy, request) ?? evaluate(policy, request)
  return decision.allow ? 'allowed' : decision.code
}
const DENIED = 'PSTN_POLICY_DENIED'
const CASES: readonly (readonly [what: string, request: PolicyRequest, expected: string])[] = [
  ['all five', GOOD, 'allowed'],
  ['the account itself', { ...GOOD, http: { ...http, path: '/accounts/42' } }, 'allowed'],
  ['1, 2: in plaintext', { ...GOOD, caller: { address: '10.0.0.7' } }, 'PSTN_PLAINTEXT_REFUSED'],
  [
    '3: by another service',
    { ...GOOD, caller: { ...WEB, identity: 'spiffe://cluster.local/ns/shop/sa/job' } },
    DENIED,
  ],
  [
    '3: by a namesake of another namespace',
    { ...GOOD, caller: { ...WEB, identity: 'spiffe://cluster.local/ns/bank/sa/web' } },
    DENIED,
  ],
  ['4: without a token', { ...GOOD, http: withoutToken }, DENIED],
  [
    '4: of another issuer',
    { ...GOOD, http: { ...http, user: { ...ADA, principal: 'https://evil.example/ada' } } },
    DENIED,
  ],
  ['5: another account', { ...GOOD, http: { ...http, path: '/accounts/43/orders' } }, DENIED],
  ['5: no account', { ...GOOD, http: { ...http, user: { ...ADA, claims: {} } } }, DENIED],
  ['another path', { ...GOOD, http: { ...http, path: '/admin/42' } }, DENIED],
  ['another method', { ...GOOD, http: { ...http, method: 'DELETE' } }, DENIED],
  ['another port', { ...GOOD, port: 9090 }, DENIED],
  ['opaque bytes', { caller: WEB, port: 8080 }, DENIED],
]
t.test('the page is valid policy', async t => t.equal(parsed.kind, 'valid'))
for (const [what, request, expected] of CASES) t.test(what, async t => t.equal(decide(request), expected))

t.test('the tests of the page pass', async t => {
  const directory = scratchDirectory(t)
  writeFileSync(join(directory, 'zero-trust.yaml'), yaml)
  writeFileSync(join(directory, 'test.yaml'), suite)
  const { code, out } = await typedAlone(['policy', 'test', join(directory, 'test.yaml')], [policyTest])
  t.equal(code, 0, out)
  t.match(out, '4 passed, 0 failed')
})
