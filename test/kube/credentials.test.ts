// The sidecar's own certificate, from the first token to rotation, outage and restart: its source against a real API
// server, the real approver and the real signer.
import t, { type Test } from 'tap'
import type { Credential } from '../../proxy/credentials/credential.ts'
import { csrCredentialSource, type IssuanceEvent } from '../../proxy/credentials/csr-source.ts'
import { openStateVolume } from '../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../proxy/credentials/trust.ts'
import { systemClock } from '../../shared/clock.ts'
import { clockSkew } from '../../shared/clock-skew.ts'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP, WORKLOAD_SIGNER } from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { TRUST_READERS } from './support/asking-pod.ts'
import { createPod, type SignerCluster, startSignerCluster, TRUST_DOMAIN } from './support/signer-cluster.ts'

const skip = requireApiServer()
const identity = workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: 'cart' })
/** Renewed after 2 to 3 seconds. */
const LEAF_SECONDS = 6

let cluster: SignerCluster

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  await cluster.server.kube.create(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`, {
    metadata: { name: TRUST_CONFIGMAP },
    data: { 'trust-domain': TRUST_DOMAIN, 'roots.pem': cluster.keeper.authority.get().roots.join('') },
  })
  const applied = await cluster.server.kubectl(['apply', '-f', '-'], TRUST_READERS)
  if (applied.code !== 0) throw new Error(applied.stderr)
})
t.teardown(() => cluster?.[Symbol.asyncDispose]())

/** Approver and signer while the test runs; `stop` is an outage of the injector. */
function signer(t: Test): { stop(): Promise<void> } {
  const running = new AbortController()
  const done = cluster.controller({ maxLeafLifetimeSeconds: LEAF_SECONDS }).run(running.signal)
  const stop = async () => {
    running.abort()
    await done
  }
  t.teardown(stop)
  return { stop }
}

async function sidecar(t: Test, name: string, serviceAccount = 'cart') {
  const pod = await createPod(cluster.server.kube, name, serviceAccount)
  const kube = await cluster.clientOf(serviceAccount, pod)
  const dir = scratchDirectory(t)
  const events: IssuanceEvent[] = []
  /** The credentials of a process that starts now, until `enough`. */
  const run = async (
    enough: (credentials: readonly Credential[], events: readonly IssuanceEvent[]) => boolean,
  ) => {
    const stopping = new AbortController()
    const volume = openStateVolume(dir, error => t.fail(error.message))
    const credentials: Credential[] = []
    const source = csrCredentialSource({
      kube,
      clock: systemClock,
      random: Math.random,
      podUid: pod.metadata?.uid ?? '',
      username: `system:serviceaccount:shop:${serviceAccount}`,
      signerName: WORKLOAD_SIGNER,
      lifetimeSeconds: 86_400,
      timeoutMs: 3_000,
      identity,
      trust: await openTrustStore(kube, TRUST_DOMAIN, volume),
      volume,
      skew: clockSkew(systemClock),
      observe: event => {
        events.push(event)
        if (enough(credentials, events)) stopping.abort()
      },
    })
    for await (const credential of source(stopping.signal)) {
      credentials.push(credential)
      if (enough(credentials, events)) break
    }
    return credentials
  }
  const failures = () => events.flatMap(event => (event.kind === 'failed' ? [event.error.code] : []))
  return { run, failures, events }
}

t.test('a pod gets its certificate and three rotations, each with a new key', { skip }, async t => {
  signer(t)
  const { run, failures } = await sidecar(t, 'rotating')
  const credentials = await run(got => got.length === 4)
  t.equal(new Set(credentials.map(({ serial }) => serial)).size, 4)
  t.equal(new Set(credentials.map(({ key }) => key)).size, 4)
  t.ok(credentials.every(credential => credential.identity === identity))
  t.same(failures(), [])
})

t.test(
  'without an approver it says what it waits for, and a restart resumes the same request',
  { skip },
  async t => {
    const { run, failures, events } = await sidecar(t, 'waiting')
    t.same(await run((_, seen) => seen.length === 1), [])
    t.same(failures(), ['PSTN_CSR_TIMEOUT'])
    t.match(events[0], { error: { message: /not approved after/ } })
    signer(t)
    t.equal((await run(got => got.length === 1)).length, 1)
    t.match(events.at(-1), { kind: 'issued', name: /-0$/ }, 'under the name of before')
  },
)

t.test('a restart while the signer is away has the certificate of before at once', { skip }, async t => {
  const { stop } = signer(t)
  const { run, events } = await sidecar(t, 'restarted')
  const [before] = await run(got => got.length === 1)
  await stop()
  const [after] = await run(got => got.length === 1)
  t.equal(after?.serial, before?.serial)
  t.match(events.at(-1), { kind: 'restored' })
})

t.test('a pod that asks for another’s identity is denied with the reason', { skip }, async t => {
  signer(t)
  const { run, failures, events } = await sidecar(t, 'forging', 'admin')
  await run((_, seen) => seen.length === 1)
  t.same(failures(), ['PSTN_CSR_DENIED'])
  t.match(events[0], { error: { message: /admin/ } })
})
