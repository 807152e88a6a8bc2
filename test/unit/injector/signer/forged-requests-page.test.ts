import { readFileSync } from 'node:fs'
import t from 'tap'
import { forgedRequestsPage } from '../../../support/forged-requests-page.ts'

t.test('docs/forged-requests.md names every case of the corpus and who refuses it', async t => {
  const page = readFileSync(new URL('../../../../docs/forged-requests.md', import.meta.url), 'utf8')
  const command = 'node test/support/forged-requests-page.ts > docs/forged-requests.md'
  t.equal(page, forgedRequestsPage(), `after a change: ${command}`)
})
