import { readFileSync } from 'node:fs'
import t from 'tap'
import { createProxyMetrics } from '../../../../proxy/observe/metrics.ts'
import { createRegistry } from '../../../../shared/metrics.ts'

t.test('docs/metrics.md lists every metric of the sidecar with its type and help, and no other', async t => {
  const registry = createRegistry()
  createProxyMetrics(registry)
  const rendered = registry.render()
  const types = new Map(
    [...rendered.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]),
  )
  const expected = [...rendered.matchAll(/^# HELP (\S+) (.+)$/gm)].map(([, name, help]) => [
    name,
    types.get(name),
    help,
  ])
  const page = readFileSync(new URL('../../../../docs/metrics.md', import.meta.url), 'utf8')
  const section = page.split(/^## /m).find(text => text.startsWith('Sidecar\n')) ?? ''
  const documented = [...section.matchAll(/^\| `(\w+)`[^|]* \| (\w+) \| (.+) \|$/gm)].map(row => row.slice(1))
  t.same(documented, expected)
})
