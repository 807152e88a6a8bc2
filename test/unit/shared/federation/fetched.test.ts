// What is kept of a partner's bundle, as people may have edited it.
import t from 'tap'
import { parseFetched, writeFetched } from '../../../../shared/federation/fetched.ts'
import { testAuthority } from '../../../support/certificates.ts'

const { root } = await testAuthority('west.example')
const url = 'https://west.example/bundle.json'

t.test('what is written reads back', async t => {
  const fetched = { url, roots: [root], sequence: '7', fetchedAt: '2026-06-01T00:00:00.000Z' }
  t.same(parseFetched('west.example', writeFetched(fetched)), fetched)
})

t.test(
  'a root that is no certificate makes the entry unreadable: nobody behind this looks at it again',
  async t => {
    const halved = root.slice(0, root.length / 2)
    for (const broken of ['x', halved])
      t.throws(() => parseFetched('west.example', writeFetched({ url, roots: [root, broken] })), {
        code: 'PSTN_PARTNER_INVALID',
        message: /west\.example\.roots\[1\]: must be a certificate/,
      })
  },
)
