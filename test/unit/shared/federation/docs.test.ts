// docs/federation.md shows only what works: every YAML block is read by the parser, and no longer once a field is misspelt.
import { readFile } from 'node:fs/promises'
import { rootCertificates } from 'node:tls'
import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { parseFederation } from '../../../../shared/federation/parse.ts'
import { describeProblem } from '../../../../shared/policy/document.ts'
import { blocksOf } from '../../../support/markdown.ts'

const docs = await readFile(new URL('../../../../docs/federation.md', import.meta.url), 'utf8')
const PLACEHOLDER = /-----BEGIN CERTIFICATE-----\s+…\s+-----END CERTIFICATE-----/
const [root = ''] = rootCertificates

/** A page shows no whole CA: one stands where it leaves it out. */
const filled = (text: string) => text.replace(PLACEHOLDER, root.trim().replaceAll('\n', '\n    '))
const blocks = blocksOf(docs)
  .filter(({ language }) => language === 'yaml')
  .map(({ text }) => filled(text))

const problemsOf = (text: string): readonly string[] => {
  const data = text.includes('kind: ConfigMap') ? parseYaml(text).data : { 'federation.yaml': text }
  const parsed = parseFederation({ data }, 'east.example')
  return parsed.kind === 'invalid' ? parsed.problems.map(describeProblem) : []
}

t.test('every example of docs/federation.md is read, and a misspelt field in it is not', async t => {
  t.ok(blocks.length >= 2)
  for (const text of blocks) {
    t.same(problemsOf(text), [], text)
    t.not(problemsOf(text.replace('spec:', 'specs:')).length, 0, 'the parser reads the block')
  }
})
