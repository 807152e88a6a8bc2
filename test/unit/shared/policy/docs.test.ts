// docs/policy.md shows only what works: every YAML block is read by the parser.
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { suites } from '../../../../cli/policy/cases.ts'
import { declarationsOf } from '../../../../injector/directory/declared-ports.ts'
import { describeProblem } from '../../../../shared/policy/document.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'
import { parseConfigMap } from '../../../../shared/policy/yaml-documents.ts'

const docs = await readFile(new URL('../../../../docs/policy.md', import.meta.url), 'utf8')
const blocks = [...docs.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text)

t.test('every example of docs/policy.md is valid policy', async t => {
  t.ok(blocks.length >= 6)
  for (const text of blocks) {
    const data = text.includes('kind: ConfigMap') ? parseYaml(text).data : { 'policy.yaml': text }
    const parsed = text.startsWith('policies:')
      ? parseConfigMap({ data }, suites)
      : parsePolicyConfigMap({ data }, { namespace: 'shop', systemNamespace: 'postern-system' })
    t.same(parsed.kind === 'invalid' ? parsed.problems.map(describeProblem) : [], [], text)
  }
})

t.test('the table of appProtocol values is what the injector makes of them', async t => {
  const [, table = ''] = docs.split('| `appProtocol` | is |')
  const rows = [...(table.split('\n\n')[0]?.matchAll(/^\| (.*?) \| (.*?) \|$/gm) ?? [])]
  const meanings = { 'HTTP/1.1': 'http1', 'HTTP/2 without TLS': 'http2', 'opaque bytes': 'opaque' } as const
  const told = rows.flatMap(([, names = '', is = '']) =>
    [...names.matchAll(/`(.*?)`/g)].map(([, name]) => [name, Object(meanings)[is]]),
  )
  t.equal(told.length, 6)
  for (const [appProtocol, protocol] of told) {
    const [declared] = declarationsOf({ spec: { ports: [{ port: 80, appProtocol }] } })
    t.equal(declared?.protocol, protocol, appProtocol)
  }
})

t.test('every field that is named as missing is refused as not supported yet', async t => {
  const [, missing = ''] = docs.split('## Not there yet')
  const source = ['remoteIpBlocks', 'notRemoteIpBlocks']
  const rules: readonly (readonly [field: string, rule: object])[] = [
    ...source.map(field => [field, { from: [{ source: { [field]: ['x'] } }] }] as const),
  ]
  for (const [field, rule] of rules) {
    t.match(missing, `\`${field}\``)
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
