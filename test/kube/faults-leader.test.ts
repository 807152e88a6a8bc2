// A leader that dies at any moment of an issuance, and two that lead for a moment, on a real API server: every request is
// answered, none twice, and names are freed. Serials are counted where the API server shows them.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { requireApiServer } from '../support/requirements.ts'
import { askingPod, publishRoots } from './support/asking-pod.ts'
import { type IssuedSerials, watchSerials } from './support/issued-serials.ts'
import { type Death, mortalKube } from './support/mortal-kube.ts'
import { eventually, type SignerCluster, startSignerCluster } from './support/signer-cluster.ts'

const skip = requireApiServer()
const LEAF_SECONDS = 6
const PODS = 12
const CHAOS_MS = 15_000
let cluster: SignerCluster
let serials: IssuedSerials

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  await publishRoots(cluster)
  serials = watchSerials(cluster.server.kube)
})
t.teardown(async () => {
  await serials?.[Symbol.asyncDispose]()
  await cluster?.[Symbol.asyncDispose]()
})

/** A replica that leads from now on; killed, it does nothing more, not even tidy up. */
function leader(t: Test, death?: Death) {
  const mortal = mortalKube(cluster.injectorKube, death)
  const signal = new AbortController()
  const settings = { maxLeafLifetimeSeconds: LEAF_SECONDS, cleanupAfterMs: 1_000 }
  const running = cluster.controller(settings, mortal.kube).run(signal.signal)
  const kill = async () => {
    mortal.kill()
    signal.abort()
    await running
  }
  t.teardown(kill)
  return { died: mortal.died, kill }
}

/** Of one request: the approval, the certificate, the deletion a second later. */
const WRITES = ['approve', 'sign', 'delete'] as const
const DEATHS = WRITES.flatMap((step, index) =>
  (['before', 'after'] as const).map(when => ({ step, when, write: index + 1 })),
)

for (const { step, when, write } of DEATHS) {
  t.test(`a leader that dies just ${when} it could ${step} costs no certificate`, { skip }, async t => {
    const first = leader(t, { when, write })
    const pod = await askingPod(t, cluster, `dies-${when}-${step}`)
    await first.died
    await first.kill()
    leader(t)
    const [credential] = await eventually(
      async () => (pod.credentials.length > 0 ? pod.credentials : undefined),
      'a certificate',
    )
    await pod.stop()
    t.same(pod.failures(), [])
    const requests = () => [...serials.byRequest.values()].filter(set => set.has(credential?.serial ?? ''))
    await eventually(async () => requests()[0], 'the request that the API server showed')
    t.same(
      requests().map(set => [...set]),
      [[credential?.serial]],
      'one request holds its serial, and no other serial',
    )
    const freed = async () => [...serials.present].every(name => !name.includes(pod.uid)) || undefined
    t.ok(await eventually(freed, 'its names to be free again'))
  })
}

t.test('leaders killed at random, two at a time for a moment: none lost, none double', { skip }, async t => {
  const pods = await Promise.all(
    Array.from({ length: PODS }, (_, index) => askingPod(t, cluster, `random-${index}`)),
  )
  const before = serials.byRequest.size
  let present = leader(t)
  let killed = 0
  for (const end = Date.now() + CHAOS_MS; Date.now() < end; killed++) {
    await delay(100 + Math.random() * 600)
    const next = leader(t)
    // Half of the former ones live on for a moment, as one does that has not yet heard that it leads no more.
    if (killed % 2 === 0) await delay(Math.random() * 300)
    await present.kill()
    present = next
  }
  await delay(500)
  await Promise.all(pods.map(pod => pod.stop()))

  const accepted = pods.flatMap(({ credentials }) => credentials.map(({ serial }) => serial))
  const issued = [...serials.byRequest.values()]
  t.ok(accepted.length >= 4 * PODS, `${accepted.length} certificates taken, ${killed} leaders killed`)
  t.equal(new Set(accepted).size, accepted.length, 'none was taken twice')
  t.same(
    issued.filter(({ size }) => size !== 1),
    [],
    'no request held two',
  )
  const written = new Set(issued.flatMap(set => [...set]))
  t.same(
    accepted.filter(serial => !written.has(serial)),
    [],
    'each was seen on a request',
  )
  const unused = serials.byRequest.size - before - accepted.length
  t.ok(unused >= 0 && unused <= PODS, `${unused} written and not taken: those under way at the end`)
  t.same(
    pods.flatMap(pod => pod.failures()),
    [],
    'no attempt failed',
  )
  t.same(
    pods.map(pod => pod.without()),
    pods.map(() => 0),
    'nobody was without',
  )
})
