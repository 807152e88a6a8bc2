// What was typed and makes no sense ends with 2 and says what would, before the cluster is asked anything.
import t from 'tap'
import { caRevokeRoot } from '../../../../cli/ca/revoke-root.ts'
import { caRotate } from '../../../../cli/ca/rotate.ts'
import { caStatus } from '../../../../cli/ca/status.ts'
import { partners } from '../../../../cli/partners/list.ts'
import { typedAlone } from '../../../support/command-line.ts'

const typed = (words: string) => typedAlone(words.split(' '), [caStatus, caRotate, caRevokeRoot, partners])

const senseless: readonly [string, RegExp][] = [
  ['ca', /no command "ca"/],
  ['ca rotat', /did you mean ca rotate\?/],
  ['ca rotate shop/web', /takes no argument shop\/web; is --skip missing\?/],
  ['ca rotate --skip web', /--skip: must be a pod as <namespace>\/<name>/],
  ['ca rotate --skip', /usage: postern ca rotate/],
  ['ca rotate --force', /--force.*usage: postern ca rotate/s],
  ['ca rotate --issuer --wait', /--issuer waits for nobody/],
  ['ca rotate --issuer --skip shop/web', /--issuer waits for nobody/],
  ['ca revoke-root', /name one root by its fingerprint/],
  ['ca revoke-root abc def', /name one root by its fingerprint/],
  ['ca revoke-root --yes', /name one root by its fingerprint/],
  ['ca status everything', /takes no argument everything/],
  ['partners west.example', /takes no argument west\.example/],
]
for (const [words, says] of senseless)
  t.test(`postern ${words}`, async t => {
    const { code, out, err, asked } = await typed(words)
    t.same([code, out, asked], [2, '', 0])
    t.match(err, says)
  })

t.test('each command says how it is used', async t => {
  for (const words of ['ca status', 'ca rotate', 'ca revoke-root'])
    t.match(await typed(`${words} --help`), {
      code: 0,
      asked: 0,
      out: new RegExp(`^usage: postern ${words}`),
    })
})

t.test('a cluster that cannot be reached is a failure, not a slip', async t => {
  t.match(await typed('ca status'), { code: 1, out: '', err: 'postern: no cluster\n', asked: 1 })
})
