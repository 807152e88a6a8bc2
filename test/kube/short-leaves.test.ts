// Certificates as short as the configuration allows, on a real API server: a pod's eight names for requests are free again before
// they run out, so that it goes on for ever. It used to end after half a minute.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { readableMs } from '../../injector/signer/cleanup.ts'
import { requireApiServer } from '../support/requirements.ts'
import { askingPod, publishRoots } from './support/asking-pod.ts'
import { type SignerCluster, startSignerCluster } from './support/signer-cluster.ts'

const LEAF_SECONDS = 10

/** How often a pod's requests failed while names were freed after so long. */
async function failuresOf(
  t: Test,
  cluster: SignerCluster,
  name: string,
  cleanupAfterMs: number,
  forMs: number,
) {
  const running = new AbortController()
  const done = cluster
    .controller({ maxLeafLifetimeSeconds: LEAF_SECONDS, cleanupAfterMs })
    .run(running.signal)
  const pod = await askingPod(t, cluster, name)
  await delay(forMs)
  await pod.stop()
  running.abort()
  await done
  return { failures: pod.failures(), without: pod.without(), renewals: pod.credentials.length }
}

t.test('certificates of ten seconds', { skip: requireApiServer() }, async t => {
  await using cluster = await startSignerCluster()
  await publishRoots(cluster)
  const kept = await failuresOf(t, cluster, 'kept', 60_000, 50_000)
  t.match(kept.failures.join('\n'), /PSTN_CSR_NAME_TAKEN/, 'with names that stay for a minute they run out')
  const { failures, without, renewals } = await failuresOf(
    t,
    cluster,
    'freed',
    readableMs(LEAF_SECONDS),
    70_000,
  )
  t.same(failures, [])
  t.equal(without, 0, 'milliseconds without a valid certificate')
  t.ok(renewals > 12, `${renewals} certificates`)
})
