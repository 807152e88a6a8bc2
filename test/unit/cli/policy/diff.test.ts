import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { addressesOf } from '../../../../cli/policy/diff/addresses.ts'
import { boxesOf } from '../../../../cli/policy/diff/boxes.ts'
import { policyDiff } from '../../../../cli/policy/diff.ts'
import { typedAlone } from '../../../support/command-line.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const policy = (name: string, spec: string, kind = 'AuthorizationPolicy') =>
  `apiVersion: policy.postern.dev/v1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: ${spec}\n---\n`
const orders = (rule: string) =>
  policy('orders', `{selector: {matchLabels: {app: orders}}, rules: [${rule}]}`)

async function differing(t: Test, before: string, after: string, ...options: string[]) {
  const directory = scratchDirectory(t)
  const files = [before, after].map((text, index) => {
    const file = join(directory, `${index}.yaml`)
    writeFileSync(file, text)
    return file
  })
  return typedAlone(['policy', 'diff', ...files, '--namespace', 'shop', ...options], [policyDiff])
}

const WEB = 'from: [{source: {serviceAccounts: [web]}}]'

const CHANGES: readonly (readonly [what: string, before: string, after: string, lines: readonly string[]])[] =
  [
    [
      'a method more',
      orders(`{${WEB}, to: [{operation: {ports: [80], methods: [GET], paths: ["/a/*"]}}]}`),
      orders(`{${WEB}, to: [{operation: {ports: [80], methods: [GET, POST], paths: ["/a/*"]}}]}`),
      [
        'pods of shop with app=orders:',
        '  newly allowed: spiffe://cluster.local/ns/shop/sa/web, requests, port 80, method POST, path /a/',
      ],
    ],
    [
      'a host more, with and without a port',
      orders('{to: [{operation: {hosts: ["a:8080"]}}]}'),
      orders('{to: [{operation: {hosts: [a]}}]}'),
      ['pods of shop with app=orders:', '  newly allowed: anybody, requests, host a | a:81'],
    ],
    [
      'a DENY that goes',
      policy('x', '{action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}') + orders('{}'),
      orders('{}'),
      [
        'pods of shop:',
        '  newly allowed: plaintext | any other ID of our trust domain | any other workload of ours, opaque bytes, from address 10.0.0.0',
        'pods of shop with app=orders:',
        '  newly allowed: anybody, opaque bytes, from address 10.0.0.0',
      ],
    ],
    [
      'strict where it was permissive',
      policy('m', '{mtls: {mode: PERMISSIVE}}', 'PeerAuthentication'),
      policy('m', '{mtls: {mode: STRICT}}', 'PeerAuthentication'),
      ['pods of shop:', '  newly denied: plaintext, opaque bytes'],
    ],
    [
      'a header that must be there',
      orders('{}'),
      orders('{when: [{key: "request.headers[x-a]", values: ["*"]}]}'),
      [
        'pods of shop with app=orders:',
        '  newly denied: anybody, opaque bytes',
        '  newly denied: anybody, requests, no x-a | x-a twice | an empty x-a',
      ],
    ],
  ]
for (const [what, before, after, lines] of CHANGES)
  t.test(`a change is told in words: ${what}`, async t => {
    const { code, out } = await differing(t, before, after)
    t.equal(code, 0)
    t.same(out.trimEnd().split('\n').slice(0, -1), lines)
    t.match(out, /\ncompared among \d+ representative requests\n$/)
    const none = await differing(t, after, after, '--fail-on-allow')
    t.match(none, { code: 0, out: /^no difference found among \d+ representative requests\n$/ })
  })

t.test('a resource that need no longer be the user’s own', async t => {
  const rule = (when: string) => orders(`{to: [{operation: {paths: ["/accounts/{id}"]}}]${when}}`)
  const owned = rule(', when: [{key: "request.path[id]", equals: "request.auth.claims[account]"}]')
  const { out } = await differing(t, owned, rule(''))
  t.match(out, /newly allowed: anybody, requests, path \/accounts\/\S+, no end user/)
  t.match(await differing(t, rule(''), owned), { out: /newly denied: anybody, requests, path \/accounts/ })
})

t.test('exit codes: what is newly allowed, and what cannot be compared', async t => {
  const closed = policy('nothing', '{}')
  t.equal((await differing(t, closed, orders('{}') + closed, '--fail-on-allow')).code, 1)
  t.equal((await differing(t, orders('{}') + closed, closed, '--fail-on-allow')).code, 0)
  t.match(await differing(t, closed, policy('x', '{rule: []}')), {
    code: 2,
    err: /spec\.rule: unknown field/,
  })
  t.match(await typedAlone(['policy', 'diff', 'a'], [policyDiff]), { code: 2, err: /two files/ })
  const json = JSON.parse((await differing(t, closed, orders('{}') + closed, '--json')).out)
  t.match(json, { sampled: false, pods: [{ pods: 'pods of shop with app=orders', differences: [{}] }] })
})

t.test('what is too much to ask is sampled, and that is said', async t => {
  const values = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, index) => `${prefix}${index}`).join(', ')
  const many = orders(
    `{from: [{source: {namespaces: [${values('n', 40)}]}}], to: [{operation: {methods: [${values('M', 40)}], hosts: [${values('h', 40)}], paths: [${values('/p', 40)}]}}]}`,
  )
  const { out } = await differing(t, many, orders('{}'))
  t.match(out, /representative requests, which are a sample: a difference may have been missed\n$/)
  t.match(out, /newly allowed/)
  const least = await differing(t, many, many)
  t.match(least.out, /^no difference found among \d+ representative requests, which are a sample/)
})

t.test('addresses: one between any two ends', t => {
  t.same(addressesOf(['10.0.0.0/8', '10.1.0.0/16', '10.0.0.7/32'], '192.0.2.1').toSorted(), [
    '10.0.0.0',
    '10.0.0.7',
    '10.0.0.8',
    '10.1.0.0',
    '10.2.0.0',
    '11.0.0.0',
    '192.0.2.1',
  ])
  t.same(addressesOf(['0.0.0.0/0', '2001:db8::/32', '::1/128'], '192.0.2.1'), [
    '192.0.2.1',
    '0.0.0.0',
    '2001:db8::',
    '2001:db9::',
    '::1',
    '::2',
  ])
  t.end()
})

t.test('boxes hold the points that were given, and no others', t => {
  const points = [
    [0, 0, 0],
    [0, 1, 0],
    [1, 0, 0],
    [1, 1, 0],
    [2, 1, 1],
  ]
  t.same(boxesOf(points, 3), [
    [[0, 1], [0, 1], [0]],
    [[2], [1], [1]],
  ])
  t.end()
})
