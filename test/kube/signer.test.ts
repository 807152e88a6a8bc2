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
import {
  COMMON_NAME,
  caTrue,
  dns,
  forgeRequest,
  ip,
  nameOf,
  type RequestParts,
  uri,
} from '../support/forged-requests.ts'
import { requireApiServer } from '../support/requirements.ts'
import { until } from './support/installation.ts'
import {
  answered,
  createPod,
  eventually,
  type RequestFields,
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
  t.equal(leaf.x509.subject, 'CN=cart-0')
  const [condition] = object.status?.conditions ?? []
  t.match(condition, { type: 'Approved', reason: 'PosternApproved' })
})

type Forgery = {
  readonly rule: string
  readonly because: RegExp
  readonly csr?: RequestParts
  readonly fields?: RequestFields
  /** Whose token asks; `unbound` is cart's, bound to no pod. */
  readonly as?: 'cart' | 'admin' | 'unbound'
  /** Asks under the name and identity of another pod. */
  readonly otherPod?: boolean
}

const forgeries: Record<string, Forgery> = {
  'another pod’s name': { otherPod: true, rule: 'name', because: /pod uid/ },
  'another service account’s identity': {
    csr: { names: [uri(adminIdentity)] },
    rule: 'canonical',
    because: /lacks that URI SAN; it has the SAN url:.*admin/,
  },
  'another service account that asks for this identity': {
    as: 'admin',
    rule: 'canonical',
    because: /must hold the URI SAN .*admin .*it has the SAN url:.*cart/,
  },
  'a token bound to no pod': { as: 'unbound', rule: 'pod-bound-token', because: /not bound/ },
  'an extra DNS name': {
    csr: { names: [uri(identity), dns('admin.bank.svc')] },
    rule: 'canonical',
    because: /SAN dns:admin\.bank\.svc/,
  },
  'an extra IP address': {
    csr: { names: [uri(identity), ip(10, 96, 0, 1)] },
    rule: 'canonical',
    because: /SAN ip:10\.96\.0\.1/,
  },
  'a second identity': {
    csr: { names: [uri(identity), uri(adminIdentity)] },
    rule: 'canonical',
    because: /SAN url:.*admin/,
  },
  'the CA bit': { csr: { extensions: [caTrue()] }, rule: 'canonical', because: /basicConstraints/ },
  'a subject': {
    csr: { subject: nameOf([COMMON_NAME, 'admin']) },
    rule: 'canonical',
    because: /subject CN=admin/,
  },
  'a weak key': { csr: { key: 'rsa1024' }, rule: 'key', because: /P-256/ },
  'another curve': { csr: { key: 'p384' }, rule: 'key', because: /P-256/ },
  'cert-manager’s annotation that asks for a CA': {
    fields: { metadata: { annotations: { 'experimental.cert-manager.io/request-is-ca': 'true' } } },
    rule: 'metadata',
    because: /annotations/,
  },
  'a usage that signs certificates': {
    fields: { spec: { usages: ['digital signature', 'server auth', 'client auth', 'cert sign'] } },
    rule: 'usages',
    because: /exactly/,
  },
}

let count = 0
for (const [name, forgery] of Object.entries(forgeries)) {
  t.test(`denies ${name}, with the reason on the object (${forgery.rule})`, { skip }, async t => {
    const { kube } = cluster.server
    count += 1
    const before = cluster.denied.length
    const account = forgery.as === 'admin' ? 'admin' : 'cart'
    const pod = await createPod(kube, `forger-${count}`, account)
    const named = forgery.otherPod ? await createPod(kube, `victim-${count}`) : pod
    const asForger = await cluster.clientOf(account, forgery.as === 'unbound' ? undefined : pod)
    const object = await submit(asForger, named, forgeRequest(identity, forgery.csr), forgery.fields)
    const { status } = await answered(asForger, object)
    t.equal(status?.certificate, undefined)
    const [denial, ...others] = status?.conditions ?? []
    t.same(others, [])
    t.match(denial, { type: 'Denied', reason: 'PosternDenied', message: forgery.because })
    t.match(denial?.message, `PSTN_CSR_DENIED ${forgery.rule}: `)
    // The object shows the denial before the signer has its own answer.
    await until(async () => cluster.denied.length > before)
    t.equal(cluster.denied.at(-1), forgery.rule)
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
  t.same(parseCertificate(certificateOf(await answered(kube, object))).dnsSans, [])
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
