// One namespace fills the signer's queue, on a real API server and with its own pods' tokens: the others' requests have their
// turns all the same.
import { generateKeyPairSync } from 'node:crypto'
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import t from 'tap'
import { CSR_PATH } from '../../injector/signer/objects.ts'
import { isAnswered, requesterOf } from '../../injector/signer/request.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { csrName, WORKLOAD_ROLE } from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import { requireApiServer } from '../support/requirements.ts'
import { createNamespace, createServiceAccount } from './support/installation.ts'
import {
  eventually,
  NODE,
  type SignerCluster,
  startSignerCluster,
  submit,
  TRUST_DOMAIN,
} from './support/signer-cluster.ts'

const NOISY_PODS = 25
/** As many as a pod has names for. */
const EACH = 8
const AT_ONCE = 8

const BINDING = (namespace: string) => `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "${WORKLOAD_ROLE}:${namespace}"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ${WORKLOAD_ROLE}}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:${namespace}"}]
`

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })

const createPod = ({ server }: SignerCluster, namespace: string, name: string): Promise<V1Pod> =>
  server.kube.create<V1Pod>(`/api/v1/namespaces/${namespace}/pods`, {
    metadata: { name },
    spec: { serviceAccountName: 'cart', nodeName: NODE, containers: [{ name: 'app', image: 'none' }] },
  })

/** Under the first of the pod's names. */
async function ask({ server }: SignerCluster, pod: V1Pod, times: number): Promise<void> {
  const { name = '', uid = '', namespace = '' } = pod.metadata ?? {}
  const token = await server.tokenFor(namespace, 'cart', { pod: { name, uid } })
  using asPod = connectKube(server.endpointFor(token))
  const identity = workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace, serviceAccount: 'cart' })
  const pem = createCsr(keys, identity)
  for (let slot = 0; slot < times; slot += 1) await submit(asPod, pod, pem, { name: csrName(uid, slot) })
}

/** By when each got its last answer. */
async function answeredInOrder({ server }: SignerCluster, count: number): Promise<readonly string[]> {
  const requests = await eventually(async () => {
    const { items } = await server.kube.get<{ items: V1CertificateSigningRequest[] }>(CSR_PATH)
    return items.filter(isAnswered).length === count ? items : undefined
  }, `answers to ${count} requests`)
  const version = ({ metadata }: V1CertificateSigningRequest) => Number(metadata?.resourceVersion)
  return requests.sort((a, b) => version(a) - version(b)).map(one => requesterOf(one)?.namespace ?? '')
}

t.test(
  'a namespace with hundreds of requests lets another’s wait for one round and no more',
  { skip: requireApiServer() },
  async t => {
    await using cluster = await startSignerCluster()
    const { kube } = cluster.server
    for (const namespace of ['noisy', 'bank']) {
      await createNamespace(kube, namespace)
      await createServiceAccount(kube, namespace, 'cart')
      const applied = await cluster.server.kubectl(['apply', '-f', '-'], BINDING(namespace))
      t.equal(applied.code, 0, applied.stderr)
    }
    const noisy = await Promise.all(
      Array.from({ length: NOISY_PODS }, (_, n) => createPod(cluster, 'noisy', `cart-${n}`)),
    )
    for (const pod of noisy) await ask(cluster, pod, EACH)
    // The API server lists requests by name: these are the last.
    const last =
      noisy
        .map(({ metadata }) => metadata?.uid ?? '')
        .sort()
        .at(-1) ?? ''
    for (const namespace of ['shop', 'bank']) {
      let pod = await createPod(cluster, namespace, 'cart-0')
      for (let n = 1; (pod.metadata?.uid ?? '') < last; n += 1)
        pod = await createPod(cluster, namespace, `cart-${n}`)
      await ask(cluster, pod, 1)
    }

    const leader = new AbortController()
    const running = cluster.controller().run(leader.signal)
    const order = await answeredInOrder(cluster, NOISY_PODS * EACH + 2)
    leader.abort()
    await running
    const [shop, bank] = [order.indexOf('shop'), order.indexOf('bank')]
    t.comment(`of ${order.length}, shop was answered as number ${shop + 1} and bank as number ${bank + 1}`)
    t.ok(shop < 3 * AT_ONCE, `${shop} before shop`)
    t.ok(bank < 3 * AT_ONCE, `${bank} before bank`)
    t.equal(
      order.filter(namespace => namespace === 'noisy').length,
      NOISY_PODS * EACH,
      'and nobody is left out',
    )
  },
)
