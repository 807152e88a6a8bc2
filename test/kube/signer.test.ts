// Approver and signer against a real API server: what it vouches for, what it refuses itself, what conflicts look like.
import { generateKeyPairSync } from 'node:crypto'
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { CSR_PATH } from '../../injector/signer/objects.ts'
import { isKubeError } from '../../shared/kube/rest.ts'
import { csrName } from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { checkIssuedChain } from '../../shared/x509/answer.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import { requireApiServer } from '../support/requirements.ts'
import { until } from './support/installation.ts'
import {
  answered,
  createPod,
  eventually,
  type SignerCluster,
  startSignerCluster,
  submit,
  TRUST_DOMAIN,
} from './support/signer-cluster.ts'

const skip = requireApiServer()
const identity = workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: 'cart' })
const adminIdentity = identity.replace('cart', 'admin')
const leader = new AbortController()
let cluster: SignerCluster
let running: Promise<void> = Promise.resolve()

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  running = cluster.controller().run(leader.signal)
})
t.teardown(async () => {
  leader.abort()
  await running
  await cluster?.[Symbol.asyncDispose]()
})

const certificateOf = ({ status }: V1CertificateSigningRequest): string =>
  Buffer.from(status?.certificate ?? '', 'base64').toString()
const newKeys = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })
const exists = async (name: string): Promise<boolean> => {
  try {
    await cluster.server.kube.get(`${CSR_PATH}/${name}`)
    return true
  } catch (error) {
    if (isKubeError(error, 404)) return false
    throw error
  }
}
const gone = (name: string) =>
  eventually(async () => ((await exists(name)) ? undefined : true), `the deletion of ${name}`)

t.test('a pod gets a certificate that its sidecar accepts', { skip }, async t => {
  const pod = await createPod(cluster.server.kube, 'cart-0')
  const asPod = await cluster.clientOf('cart', pod)
  const keys = newKeys()
  const object = await answered(asPod, await submit(asPod, pod, createCsr(keys, identity)))
  const chainPem = certificateOf(object)
  const { roots } = cluster.keeper.authority.get()
  const issued = checkIssuedChain({ chainPem, publicKey: keys.publicKey, identity, roots, now: Date.now() })
  t.equal(issued.chain, chainPem)
  t.ok(issued.notAfter.getTime() - Date.now() <= 600_000, 'no longer than asked')
  const leaf = parseCertificate(chainPem)
  t.same(leaf.dnsSans, ['cart.shop.svc', 'cart.shop.svc.cluster.local'])
  t.equal(leaf.x509.subject, `CN=cart-0\nserialNumber=${pod.metadata?.uid}`)
  const [condition] = object.status?.conditions ?? []
  t.match(condition, { type: 'Approved', reason: 'PosternApproved' })
})

// Every other forgery is in signer-corpus.test.ts, in names that an administrator vouches for: these are real tokens.
const forgeries = {
  'that asks for another service account’s identity': { account: 'cart', asks: adminIdentity },
  'of another service account that asks for this identity': { account: 'admin', asks: identity },
}

for (const [name, { account, asks }] of Object.entries(forgeries)) {
  t.test(`denies a pod ${name}, with the reason on the object`, { skip }, async t => {
    const before = cluster.denied.length
    const pod = await createPod(cluster.server.kube, `forger-${account}`, account)
    const asForger = await cluster.clientOf(account, pod)
    const { status } = await answered(asForger, await submit(asForger, pod, createCsr(newKeys(), asks)))
    t.equal(status?.certificate, undefined)
    const [denial, ...others] = status?.conditions ?? []
    t.same(others, [])
    t.match(denial, { type: 'Denied', reason: 'PosternDenied' })
    t.match(denial?.message, `PSTN_CSR_DENIED canonical: `)
    t.match(denial?.message, `it has the SAN url:${asks}`)
    // The object shows the denial before the signer has its own answer.
    await until(async () => cluster.denied.length > before)
    t.equal(cluster.denied.at(-1), 'canonical')
  })
}

t.test('denies a pod that has ended', { skip }, async t => {
  const { kube } = cluster.server
  const pod = await createPod(kube, 'ended')
  const asPod = await cluster.clientOf('cart', pod)
  const patch = { status: { phase: 'Succeeded' } }
  await kube.patch('/api/v1/namespaces/shop/pods/ended/status', 'application/merge-patch+json', patch)
  const { status } = await answered(asPod, await submit(asPod, pod, createCsr(newKeys(), identity)))
  t.match(status?.conditions, [{ type: 'Denied', message: /pod-live/ }])
})

t.test('a person’s request waits for a person, and is signed when one approves it', { skip }, async t => {
  const { kube, kubectl } = cluster.server
  const pod = await createPod(kube, 'by-hand')
  const object = await submit(kube, pod, createCsr(newKeys(), adminIdentity), { name: 'by-hand' })
  const asPod = await cluster.clientOf('cart', await createPod(kube, 'witness'))
  const witness = await kube.get<typeof pod>('/api/v1/namespaces/shop/pods/witness')
  await answered(asPod, await submit(asPod, witness, createCsr(newKeys(), identity)))
  const waiting = await kube.get<V1CertificateSigningRequest>(`${CSR_PATH}/by-hand`)
  t.equal(waiting.status?.conditions, undefined, 'still pending when a later request has been answered')
  t.equal((await kubectl(['certificate', 'approve', 'by-hand'])).code, 0)
  const leaf = parseCertificate(certificateOf(await answered(kube, object)))
  t.same(leaf.uriSans, [adminIdentity])
})

t.test('an approved request for another identity than its token’s fails for good', { skip }, async t => {
  const stop = new AbortController()
  const { kube, kubectl } = cluster.server
  leader.abort()
  await running
  const pod = await createPod(kube, 'bribed')
  const asPod = await cluster.clientOf('cart', pod)
  const object = await submit(asPod, pod, createCsr(newKeys(), adminIdentity))
  t.equal((await kubectl(['certificate', 'approve', object.metadata?.name ?? ''])).code, 0)
  const replica = cluster.controller().run(stop.signal)
  const { status } = await answered(asPod, object)
  t.match(status?.conditions?.find(({ type }) => type === 'Failed')?.message, /PSTN_CSR_FAILED .*sa\/cart/)
  t.equal(status?.certificate, undefined)
  stop.abort()
  await replica
})

t.test('a pod that was made anew lends its Services to no earlier request', { skip }, async t => {
  const stop = new AbortController()
  const { kube, kubectl } = cluster.server
  const former = await createPod(kube, 'cart-9')
  const asFormer = await cluster.clientOf('cart', former)
  const object = await submit(asFormer, former, createCsr(newKeys(), identity))
  t.equal((await kubectl(['certificate', 'approve', object.metadata?.name ?? ''])).code, 0)
  await kube.delete('/api/v1/namespaces/shop/pods/cart-9', { gracePeriodSeconds: 0 })
  await createPod(kube, 'cart-9')
  const replica = cluster.controller().run(stop.signal)
  const { dnsSans } = parseCertificate(certificateOf(await answered(kube, object)))
  t.same(dnsSans, [`${former.metadata?.uid}.shop.pod`])
  stop.abort()
  await replica
})

t.test('two replicas that both believe to lead sign once', { skip }, async t => {
  const stop = new AbortController()
  const replicas = [cluster.controller(), cluster.controller()].map(one => one.run(stop.signal))
  const pod = await createPod(cluster.server.kube, 'contended')
  const asPod = await cluster.clientOf('cart', pod)
  const submitted = Array.from({ length: 8 }, (_, slot) =>
    submit(asPod, pod, createCsr(newKeys(), identity), { name: csrName(pod.metadata?.uid ?? '', slot) }),
  )
  const first = await Promise.all((await Promise.all(submitted)).map(one => answered(asPod, one)))
  await new Promise(resolve => setTimeout(resolve, 1_000))
  for (const object of first) {
    const later = await asPod.get<V1CertificateSigningRequest>(`${CSR_PATH}/${object.metadata?.name}`)
    t.ok(certificateOf(object))
    t.equal(certificateOf(later), certificateOf(object))
    t.equal(later.status?.conditions?.length, 1)
  }
  stop.abort()
  await Promise.all(replicas)
})

t.test('answered requests are deleted after their time, so that names are free again', { skip }, async t => {
  const stop = new AbortController()
  const replica = cluster.controller({ cleanupAfterMs: 1_000 }).run(stop.signal)
  const pod = await createPod(cluster.server.kube, 'thrifty')
  const asPod = await cluster.clientOf('cart', pod)
  const name = csrName(pod.metadata?.uid ?? '', 0)
  for (const _ of ['first', 'second']) {
    const object = await answered(asPod, await submit(asPod, pod, createCsr(newKeys(), identity)))
    t.ok(certificateOf(object))
    await gone(name)
  }
  t.ok(await exists('by-hand'), 'a person’s request is left to Kubernetes’ cleaner')
  stop.abort()
  await replica
})

t.test('the names of a pod that is gone are freed at once', { skip }, async t => {
  const stop = new AbortController()
  const controller = cluster.controller()
  const replica = controller.run(stop.signal)
  const pod = await createPod(cluster.server.kube, 'short-lived')
  const asPod = await cluster.clientOf('cart', pod)
  const object = await answered(asPod, await submit(asPod, pod, createCsr(newKeys(), identity)))
  controller.podDeleted(pod.metadata?.uid ?? '')
  t.equal(await gone(object.metadata?.name ?? ''), true)
  stop.abort()
  await replica
})
