// docs/policy.md shows only what works: every YAML block is read by the parser.
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { describeProblem } from '../../../../shared/policy/document.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'

const docs = await readFile(new URL('../../../../docs/policy.md', import.meta.url), 'utf8')
const blocks = [...docs.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text)

t.test('every example of docs/policy.md is valid policy', async t => {
  t.ok(blocks.length >= 6)
  for (const text of blocks) {
    const data = text.includes('kind: ConfigMap') ? parseYaml(text).data : { 'policy.yaml': text }
    const parsed = parsePolicyConfigMap({ data }, { namespace: 'shop', systemNamespace: 'postern-system' })
    t.same(parsed.kind === 'invalid' ? parsed.problems.map(describeProblem) : [], [], text)
  }
})

t.test('every field that is named as missing is refused as not supported yet', async t => {
  const [, missing = ''] = docs.split('## Not there yet')
  const source = ['ipBlocks', 'remoteIpBlocks', 'requestPrincipals', 'trustDomains']
  const operation = ['hosts', 'methods', 'paths']
  for (const field of [...source, ...operation]) {
    t.match(missing, `\`${field}\``)
    const rule = source.includes(field)
      ? { from: [{ source: { [field]: ['x'] } }] }
      : { to: [{ operation: { [field]: ['x'] } }] }
    const document = {
      apiVersion: 'policy.postern.dev/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'x' },
      spec: { rules: [rule] },
    }
    const parsed = parsePolicyConfigMap(
      { data: { 'policy.yaml': JSON.stringify(document) } },
      { namespace: 'shop', systemNamespace: 'postern-system' },
    )
    t.match(parsed, { kind: 'invalid', problems: [{ reason: /not supported yet/ }] }, field)
  }
})
