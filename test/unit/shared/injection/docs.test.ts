import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parse } from 'yaml'
import { injectInto, pod } from '../../../support/pods.ts'

t.test('the sample in docs/injection.md is what injection makes', async t => {
  const page = await readFile(new URL('../../../../docs/injection.md', import.meta.url), 'utf8')
  const [, sample = ''] = /```yaml\n(.*?)```/s.exec(page) ?? []
  const probe = { httpGet: { port: 8080, path: '/healthz' } }
  const made = injectInto(pod({ container: { image: 'example/web:1', readinessProbe: probe } }))
  const text = JSON.stringify({ apiVersion: 'v1', kind: 'Pod', ...made }, (key, value) =>
    key === 'value' && String(value).startsWith('{') ? '…' : value,
  )
  t.strictSame(parse(sample), JSON.parse(text))
})
