import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { policyValidate } from '../../../../cli/policy/validate.ts'
import { typedAlone } from '../../../support/command-line.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const policy = (name: string, rest = 'spec: {}') =>
  `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}}\n${rest}\n`
const indented = (text: string, by: number) => text.replace(/^(?=.)/gm, ' '.repeat(by))
const configMap = (text: string, label = '"true"') => `apiVersion: v1
kind: ConfigMap
metadata:
  name: policies
  namespace: shop
  labels: {postern.dev/policy: ${label}}
data:
  a.yaml: |
${indented(text, 4)}`

function given(t: Test, files: Readonly<Record<string, string>>) {
  const directory = scratchDirectory(t)
  mkdirSync(join(directory, 'deep'))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
  return (...words: string[]) =>
    typedAlone(['policy', 'validate', ...words.map(word => word.replace(/^\./, directory))], [policyValidate])
}

t.test('manifests, lists as kubectl prints them, and documents alone, in folders', async t => {
  const list = { apiVersion: 'v1', kind: 'List', items: [] as object[] }
  list.items.push(
    { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' } },
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'p', namespace: 'bank', labels: { 'postern.dev/policy': 'true' } },
      data: { 'b.yaml': policy('of-a-list') },
    },
  )
  const validate = given(t, {
    'manifest.yaml': `kind: Deployment\nmetadata: {name: x}\n---\n${configMap(policy('of-a-manifest'))}`,
    'deep/list.json': JSON.stringify(list),
    'alone.yml': `${policy('one')}---\n${policy('two')}`,
    'other.yaml': configMap('not: a policy', '"false"'),
    'README.md': 'apiVersion: policy.postern.dev/v1',
  })
  const { code, out } = await validate('.', '--namespace', 'dev')
  t.equal(code, 0)
  t.same(out.split('\n').sort(), [
    '',
    'AuthorizationPolicy bank/of-a-list: valid',
    'AuthorizationPolicy dev/one: valid',
    'AuthorizationPolicy dev/two: valid',
    'AuthorizationPolicy shop/of-a-manifest: valid',
  ])
})

t.test('what is wrong is told by its place in the file, in every file at once', async t => {
  const wrong = policy('x', 'spec:\n  rules:\n  - form: []')
  const text = configMap(wrong)
  const validate = given(t, {
    'manifest.yaml': text,
    'alone.yaml': wrong,
    'list.yaml': `kind: List\nitems:\n- ${indented(text, 2).trimStart()}`,
    'flow.json': JSON.stringify({
      kind: 'ConfigMap',
      metadata: { labels: { 'postern.dev/policy': 'true' } },
      data: { 'a.yaml': wrong },
    }),
  })
  const { code, out } = await validate('.')
  t.equal(code, 1)
  const places = out
    .split('\n')
    .flatMap(line => /([a-z]+\.\w+(?:, a\.yaml)?:\d+:\d+): (\S+:)/.exec(line)?.slice(1) ?? [])
  t.same(places, [
    'alone.yaml:6:5',
    'spec.rules[0].form:',
    'flow.json, a.yaml:1:90',
    'spec.rules[0].form:',
    'list.yaml:16:11',
    'spec.rules[0].form:',
    'manifest.yaml:14:9',
    'spec.rules[0].form:',
  ])
  const lines = text.split('\n')
  t.equal(lines[13]?.slice(8, 12), 'form', 'control: the place is where the word stands')
  t.match(out, /fields: from, to, when/)
  t.match(JSON.parse((await validate('.', '--json')).out), { problems: { length: 4 }, valid: [] })
})

t.test('what makes no sense ends with 2', async t => {
  const validate = given(t, { 'other.yaml': 'a: b' })
  for (const [words, says] of [
    [[], /at least one file/],
    [['./none.yaml'], /ENOENT/],
    [['.'], /no policy in/],
    [['.', '--namespace', 'A'], /no name of a namespace/],
  ] as const) {
    const { code, err, asked } = await validate(...words)
    t.match(err, says)
    t.same([code, asked], [2, 0])
  }
})
