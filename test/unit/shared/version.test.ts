import { readFileSync } from 'node:fs'
import t from 'tap'
import { VERSION } from '../../../shared/version.ts'

t.test('the version is that of package.json', async t => {
  const manifest = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  t.equal(VERSION, manifest.version)
})
