// The seed is fixed, so that a failure is the same everywhere; SEED and MUTANTS in the environment look elsewhere.
import t from 'tap'
import { compare, compareMutants, passedOf, tally } from '../../../support/gate-differential.ts'
import { nginxPeer, nodePeer } from '../../../support/http-peers.ts'
import { messagesIn } from '../../../support/http1-messages.ts'
import { requireCommands } from '../../../support/requirements.ts'
import { smugglingVectors } from '../../../support/smuggling-vectors.ts'

const seed = Number(process.env.SEED ?? 1)
const count = Number(process.env.MUTANTS ?? 20_000)

const needsNginx = { skip: requireCommands('nginx') }

t.test('Node and nginx see in what passes the requests that the gate saw', needsNginx, async t => {
  const peers = [nodePeer(), await nginxPeer(t)].map(peer => ({ peer, counts: tally() }))
  const inputs = smugglingVectors().map(({ input }) => input)
  const passing = await compareMutants(peers, { inputs, count, seed })
  for (const { peer, counts } of peers) {
    t.comment(
      `${peer.name}: ${counts.compared} requests of ${passing} inputs, which all pass in the same form`,
    )
    t.same(counts.disagreements.slice(0, 5), [], `${peer.name}, seed ${seed}`)
    t.ok(counts.compared > count / 10, 'enough of them pass to prove something')
  }
})

t.test('a boundary that is wrong by one byte would be seen by both', needsNginx, async t => {
  const good = passedOf('GET /next HTTP/1.1\r\nHost: a\r\n\r\n', 0)
  for (const peer of [nodePeer(), await nginxPeer(t)])
    for (const length of [4, 6]) {
      const [message] = messagesIn(
        Buffer.from('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello'),
      )
      if (!message) throw new Error('it is one request')
      const raw = Buffer.from(message.raw.toString('latin1').replace('5', String(length)))
      const counts = tally()
      await compare(peer, [{ input: 'shifted', messages: [{ ...message, raw }] }, good], counts)
      t.ok(counts.disagreements.length > 0, `${peer.name}, ${length} instead of 5`)
    }
})
