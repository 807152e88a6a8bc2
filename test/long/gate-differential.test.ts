// The property tier's comparison, a million times, from a seed that is new in each run unless SEED says otherwise.
import t from 'tap'
import { compareMutants, tally } from '../support/gate-differential.ts'
import { nginxPeer, nodePeer } from '../support/http-peers.ts'
import { requireCommands } from '../support/requirements.ts'
import { smugglingVectors } from '../support/smuggling-vectors.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const count = Number(process.env.MUTANTS ?? 1_000_000)

t.test(`Node and nginx agree about ${count} mutants`, { skip: requireCommands('nginx') }, async t => {
  const peers = [nodePeer(), await nginxPeer(t)].map(peer => ({ peer, counts: tally() }))
  const passing = await compareMutants(peers, {
    inputs: smugglingVectors().map(({ input }) => input),
    count,
    seed,
  })
  for (const { peer, counts } of peers) {
    t.comment(`seed ${seed}, ${peer.name}: ${counts.compared} requests of ${passing} inputs`)
    t.same(counts.disagreements.slice(0, 5), [], `${peer.name}, seed ${seed}`)
  }
})
