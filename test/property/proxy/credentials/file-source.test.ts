// Whatever two files hold while somebody writes them, a credential is only ever one that was meant: key and chain of one
// certificate, never a mixture, and never less of a chain than was written.
import fc from 'fast-check'
import t from 'tap'
import { offerIn } from '../../../../proxy/credentials/file-source.ts'
import { checkOffer } from '../../../../proxy/credentials/offer.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { IDENTITY } from '../../../support/offered-pod.ts'

const authority = await testAuthority('cluster.local')
const issuer = await authority.intermediate()
const [before, after] = [
  await issuer.issue({ identity: IDENTITY }),
  await issuer.issue({ identity: IDENTITY }),
]
const context = { identity: IDENTITY, roots: [authority.root], now: Date.now() }

/** What a reader may see: a former text, part of the next one over it or in its place, both. */
const seen = (old: string, next: string) =>
  fc.oneof(
    fc.constantFrom(old, next, ''),
    fc.nat(next.length).map(at => next.slice(0, at)),
    fc.nat(next.length).map(at => next.slice(0, at) + old.slice(at)),
    fc.nat(next.length).map(at => next.slice(0, at) + '\0'.repeat(next.length - at)),
    fc.nat(next.length).map(at => next.slice(at)),
    fc.constant(old + next),
  )

t.test('of any two half-written files: the old one, the new one, or a refusal', async t => {
  const outcomes = { before: 0, after: 0, refused: 0 }
  fc.assert(
    fc.property(seen(before.key, after.key), seen(before.chain, after.chain), (key, chain) => {
      try {
        const taken = checkOffer(offerIn({ key, chain }), context)
        const meant = [before, after].find(({ serial }) => serial === taken.serial)
        if (meant?.key !== taken.key || meant.chain !== taken.chain) throw new Error('a mixture')
        outcomes[meant === before ? 'before' : 'after'] += 1
      } catch (thrown) {
        if (!(thrown instanceof PosternError) || thrown.code !== 'PSTN_SOURCE_INVALID') throw thrown
        outcomes.refused += 1
      }
    }),
    { numRuns: 1_000 },
  )
  t.comment(JSON.stringify(outcomes))
  t.ok(outcomes.before > 0 && outcomes.after > 0 && outcomes.refused > 0, 'each of them came')
})

t.test('of one half-written file with key and chain too', async t => {
  const [old, next] = [before.key + before.chain, after.key + after.chain]
  let taken = 0
  fc.assert(
    fc.property(seen(old, next), text => {
      try {
        const { key, chain, serial } = checkOffer(offerIn({ key: text, chain: text }), context)
        const meant = [before, after].find(one => one.serial === serial)
        if (meant?.key !== key || meant.chain !== chain) throw new Error('a mixture')
        taken += 1
      } catch (thrown) {
        if (!(thrown instanceof PosternError) || thrown.code !== 'PSTN_SOURCE_INVALID') throw thrown
      }
    }),
    { numRuns: 1_000 },
  )
  t.ok(taken > 0)
})
