// A sidecar whose token is gone, is not taken, or is not allowed to ask, for a while, on a real API server: it says so, keeps
// its certificate, and renews by itself when the token does again.
import t, { type Test } from 'tap'
import { connectKube, isKubeError } from '../../shared/kube/rest.ts'
import { WORKLOAD_ROLE } from '../../shared/names.ts'
import { requireApiServer } from '../support/requirements.ts'
import { type AskingPod, askingPod, publishRoots } from './support/asking-pod.ts'
import { outcome, untilAllowed, untilRefused } from './support/installation.ts'
import { eventually, type SignerCluster, startSignerCluster } from './support/signer-cluster.ts'

const skip = requireApiServer()
/** Renewed after 3 to 5 seconds; each fault is shorter than what is left. */
const LEAF_SECONDS = 10
const BINDING = `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/${WORKLOAD_ROLE}:shop`
const stop = new AbortController()
let cluster: SignerCluster
let running: Promise<void> = Promise.resolve()

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  await publishRoots(cluster)
  running = cluster.controller({ maxLeafLifetimeSeconds: LEAF_SECONDS }).run(stop.signal)
})
t.teardown(async () => {
  stop.abort()
  await running
  await cluster?.[Symbol.asyncDispose]()
})

type Fault = {
  readonly says: RegExp
  begin(pod: AskingPod): Promise<void>
  end(pod: AskingPod): Promise<void>
}

const withoutSignature = (token: string) => `${token.slice(0, token.lastIndexOf('.'))}.AAAA`

async function mayAsk({ token }: AskingPod): Promise<unknown> {
  using kube = connectKube(cluster.server.endpointFor(token))
  return kube.get('/apis/certificates.k8s.io/v1/certificatesigningrequests/nothing').catch(thrown => {
    if (!isKubeError(thrown, 404)) throw thrown
  })
}

let binding: { metadata: { name?: string; resourceVersion?: string; uid?: string } } | undefined

const FAULTS: Readonly<Record<string, Fault>> = {
  'a token file that is gone': {
    says: /^PSTN_API_UNAVAILABLE .*ENOENT/,
    begin: pod => pod.removeToken(),
    end: pod => pod.writeToken(pod.token),
  },
  'a token that the API server does not take: 401': {
    says: /^PSTN_API_UNAVAILABLE .*Unauthorized/,
    begin: pod => pod.writeToken(withoutSignature(pod.token)),
    end: pod => pod.writeToken(pod.token),
  },
  'an empty token file': {
    says: /^PSTN_API_UNAVAILABLE .*system:anonymous/,
    begin: pod => pod.writeToken(''),
    end: pod => pod.writeToken(pod.token),
  },
  'a binding of the namespace that is missing: 403': {
    says: /^PSTN_API_UNAVAILABLE .*cannot create resource/,
    begin: async pod => {
      binding = await cluster.server.kube.get(BINDING)
      await cluster.server.kube.delete(BINDING)
      await untilRefused(() => mayAsk(pod))
    },
    end: async pod => {
      const { resourceVersion: _, uid: __, ...metadata } = binding?.metadata ?? {}
      const path = BINDING.slice(0, BINDING.lastIndexOf('/'))
      await cluster.server.kube.create(path, { ...binding, metadata })
      await untilAllowed(() => mayAsk(pod))
    },
  },
}

let count = 0
for (const [name, { says, begin, end }] of Object.entries(FAULTS)) {
  t.test(`${name}: it says so, keeps its certificate, and heals`, { skip }, async (t: Test) => {
    const pod = await askingPod(t, cluster, `token-${count++}`)
    await pod.next()
    t.same(pod.failures(), [], 'before')
    t.equal(await outcome(() => mayAsk(pod)), 'allowed')
    await begin(pod)
    const [first] = await eventually(
      async () => (pod.failures().length > 0 ? pod.failures() : undefined),
      'a failure',
    )
    t.match(first, says)
    const healing = Date.now()
    await end(pod)
    const renewed = await pod.next()
    t.comment(`renewed ${Date.now() - healing} ms after the end of the fault`)
    t.equal(pod.without(), 0, 'never without a certificate')
    t.ok(renewed.notAfter.getTime() > Date.now())
  })
}
