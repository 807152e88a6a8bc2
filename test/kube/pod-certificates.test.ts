// PodCertificateRequests on a real API server with the gate on: what a kubelet gets, who may ask for it, what is denied and
// with which reason, what waits, and a leader that dies. The API server itself judges each certificate that is written.
import { type KeyObject, X509Certificate } from 'node:crypto'
import type { V1Node, V1Pod, V1ServiceAccount } from '@kubernetes/client-node'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { signPodCertificates } from '../../injector/podcertificates/controller.ts'
import { isAnswered, type PodCertificateRequest } from '../../injector/podcertificates/request.ts'
import { systemClock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { live } from '../../shared/live.ts'
import { WORKLOAD_SIGNER } from '../../shared/names.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../shared/revocation.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { checkIssuedChain } from '../../shared/x509/answer.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { POD_CERTIFICATE_FLAGS } from '../support/api-server.ts'
import { kubeletStub, newKeys, type StubKeys } from '../support/pod-certificate.ts'
import { requireApiServer } from '../support/requirements.ts'
import { type Anybody, asAnybody, type User } from './support/as-anybody.ts'
import { until } from './support/installation.ts'
import { type Death, mortalKube } from './support/mortal-kube.ts'
import {
  createPod,
  eventually,
  NODE,
  type SignerCluster,
  startSignerCluster,
  TRUST_DOMAIN,
} from './support/signer-cluster.ts'

const skip = requireApiServer()
const NAMESPACED = '/apis/certificates.k8s.io/v1beta1/namespaces/shop/podcertificaterequests'
const ADMISSION = '/apis/admissionregistration.k8s.io/v1'
const KUBELET: User = {
  username: `system:node:${NODE}`,
  groups: ['system:nodes', 'system:authenticated'],
  extra: {},
}
const identity = workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: 'cart' })

let cluster: SignerCluster
let anybody: Anybody
let node: V1Node
const accounts = new Map<string, V1ServiceAccount>()

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster({ flags: POD_CERTIFICATE_FLAGS })
  const { kube, endpoint } = cluster.server
  anybody = asAnybody(endpoint)
  node = await kube.get<V1Node>(`/api/v1/nodes/${NODE}`)
  for (const name of ['cart', 'admin'])
    accounts.set(name, await kube.get<V1ServiceAccount>(`/api/v1/namespaces/shop/serviceaccounts/${name}`))
})
t.teardown(async () => {
  anybody?.[Symbol.dispose]()
  await cluster?.[Symbol.asyncDispose]()
})

/** A leader from now on, and what it says and counts. */
function leader(t: Test, kube: Kube = cluster.injectorKube) {
  const lines: { msg: string; version?: string }[] = []
  const counted: string[] = []
  const revoked = live<ReturnType<typeof revocationCheck> | undefined>(revocationCheck(NOBODY_REVOKED))
  const stop = new AbortController()
  const running = signPodCertificates(
    {
      kube,
      // Looks for the API each half second instead of each minute.
      clock: { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 120, signal) },
      log: pino({ messageKey: 'msg' }, { write: line => void lines.push(JSON.parse(line)) }),
      random: Math.random,
      authority: cluster.keeper.authority,
      settings: { trustDomain: TRUST_DOMAIN, clusterDomain: 'cluster.local', maxLeafLifetimeSeconds: 86_400 },
      revoked,
      servicesOf: pod => (/^cart-\d/.test(pod.metadata?.name ?? '') ? ['cart'] : []),
      podCertificate: (outcome, rule = '') => counted.push(`${outcome} ${rule}`.trim()),
    },
    stop.signal,
  )
  const end = async () => {
    stop.abort()
    await running
  }
  t.teardown(end)
  return {
    counted,
    revoked,
    end,
    said: (text: string) => lines.filter(({ msg }) => msg.includes(text)).length,
  }
}

type Spec = PodCertificateRequest['spec']

/** What the kubelet sends for a pod, but for what is said otherwise. */
function requestOf(pod: V1Pod, change: Partial<Spec> = {}, keys: StubKeys = newKeys()): object {
  const { serviceAccountName = '' } = pod.spec ?? {}
  return {
    apiVersion: 'certificates.k8s.io/v1beta1',
    kind: 'PodCertificateRequest',
    metadata: { generateName: 'req-', namespace: 'shop' },
    spec: {
      signerName: WORKLOAD_SIGNER,
      podName: pod.metadata?.name,
      podUID: pod.metadata?.uid,
      serviceAccountName,
      serviceAccountUID: accounts.get(serviceAccountName)?.metadata?.uid,
      nodeName: NODE,
      nodeUID: node.metadata?.uid,
      stubPKCS10Request: kubeletStub(keys),
      ...change,
    },
  }
}

async function ask(body: object, as = KUBELET): Promise<string> {
  const answer = await anybody.create(NAMESPACED, body, as)
  if (answer.kind === 'refused') throw new Error(`${answer.status}: ${answer.message}`)
  return (answer.object as PodCertificateRequest).metadata?.name ?? ''
}

/** NodeRestriction reads pods from a cache, which may not have the one that was made a moment ago. */
const askOnceKnown = (body: object) =>
  eventually(
    () =>
      ask(body).catch((thrown: Error) => {
        if (/not found|differs/.test(thrown.message)) return undefined
        throw thrown
      }),
    'NodeRestriction to know the pod',
  )

const read = (name: string) => cluster.server.kube.get<PodCertificateRequest>(`${NAMESPACED}/${name}`)
const answered = (name: string) =>
  eventually(async () => {
    const object = await read(name)
    return isAnswered(object) ? object : undefined
  }, `the answer to ${name}`)

const chainOf = ({ status }: PodCertificateRequest, publicKey: KeyObject) =>
  checkIssuedChain({
    chainPem: status?.certificateChain ?? '',
    publicKey,
    identity,
    roots: cluster.keeper.authority.get().roots,
    now: Date.now(),
  })

t.test('a kubelet gets the pod’s SVID, as a sidecar would through the CSR API', { skip }, async t => {
  const { counted, said } = leader(t)
  const pod = await createPod(cluster.server.kube, 'cart-0')
  const keys = newKeys()
  const { status, ...request } = await answered(await askOnceKnown(requestOf(pod, {}, keys)))
  t.match(status?.conditions, [{ type: 'Issued', status: 'True', reason: 'PosternIssued' }])
  const { notAfter } = chainOf({ ...request, status: status ?? {} }, keys.publicKey)
  const leaf = parseCertificate(status?.certificateChain ?? '')
  t.same(leaf.dnsSans, ['cart.shop.svc', 'cart.shop.svc.cluster.local'])
  t.equal(leaf.x509.subject, `CN=cart-0\nserialNumber=${pod.metadata?.uid}`)
  t.equal(Date.parse(status?.notAfter ?? ''), notAfter.getTime())
  const left = (Date.parse(status?.beginRefreshAt ?? '') - Date.now()) / (notAfter.getTime() - Date.now())
  t.ok(left > 0.32 && left < 0.51, `the refresh begins at ${left} of the time left`)
  await until(async () => counted.length > 0)
  t.same(counted, ['issued'])
  t.equal(said('PodCertificateRequests are served'), 1)
})

t.test('the shortest that the API takes, and bare keys of older kubelets', { skip }, async t => {
  leader(t)
  const pod = await createPod(cluster.server.kube, 'cart-1')
  const hour = await answered(await askOnceKnown(requestOf(pod, { maxExpirationSeconds: 3600 })))
  const { validFromDate, validToDate } = new X509Certificate(hour.status?.certificateChain ?? '')
  t.equal(validToDate.getTime() - validFromDate.getTime(), 3_600_000, 'from its backdated beginning on')
  const long = await answered(await ask(requestOf(pod, { maxExpirationSeconds: 7_862_400 })))
  t.ok(Date.parse(long.status?.notAfter ?? '') <= Date.now() + 86_400_000, 'no longer than the signer issues')
  const keys = newKeys()
  const bare = requestOf(pod, keys.bare(pod.metadata?.uid ?? ''))
  chainOf(await answered(await ask(bare)), keys.publicKey)
})

const DENIED: Record<string, readonly [rule: string, reason: string, change: () => Partial<Spec>]> = {
  'a P-384 key': ['key', 'UnsupportedKeyType', () => ({ stubPKCS10Request: kubeletStub(newKeys('P-384')) })],
  'an Ed25519 key': [
    'key',
    'UnsupportedKeyType',
    () => ({ stubPKCS10Request: kubeletStub(newKeys('ed25519')) }),
  ],
  'an RSA key': ['key', 'UnsupportedKeyType', () => ({ stubPKCS10Request: kubeletStub(newKeys('rsa')) })],
  'a stub that asks for a name': [
    'stub',
    'PosternDenied',
    () => ({ stubPKCS10Request: kubeletStub(newKeys(), identity) }),
  ],
  'annotations of the user': [
    'user-annotations',
    'InvalidUnverifiedUserAnnotations',
    () => ({ unverifiedUserAnnotations: { 'shop.example/role': 'admin' } }),
  ],
}

t.test(
  'a kubelet’s request that never can be right is denied with Kubernetes’ own reason',
  { skip },
  async t => {
    const { counted } = leader(t)
    const pod = await createPod(cluster.server.kube, 'cart-2')
    await answered(await askOnceKnown(requestOf(pod)))
    for (const [name, [rule, reason, change]] of Object.entries(DENIED)) {
      const { status } = await answered(await ask(requestOf(pod, change())))
      t.equal(status?.certificateChain, undefined, name)
      t.match(status?.conditions, [{ type: 'Denied', reason, message: `PSTN_CSR_DENIED ${rule}: ` }], name)
    }
    const ended = { status: { phase: 'Succeeded' } }
    await cluster.server.kube.patch(
      `/api/v1/namespaces/shop/pods/cart-2/status`,
      'application/merge-patch+json',
      ended,
    )
    const { status } = await answered(await ask(requestOf(pod)))
    t.match(status?.conditions, [{ type: 'Denied', message: /pod-live/ }])
    const rules = [...Object.values(DENIED).map(([rule]) => rule), 'pod-live']
    await until(async () => counted.length > rules.length)
    t.same(counted, ['issued', ...rules.map(rule => `denied ${rule}`)])
  },
)

const ADMIN: User = { username: 'root', groups: ['system:masters', 'system:authenticated'], extra: {} }
const OTHER_NODE: User = { ...KUBELET, username: 'system:node:node-2' }
const NAMED_LIKE_ONE: User = { ...ADMIN, username: KUBELET.username }

t.test('nobody but the kubelet of the pod’s node may ask', { skip }, async t => {
  const pod = await createPod(cluster.server.kube, 'cart-3')
  await askOnceKnown(requestOf(pod))
  const admission = /PSTN_CSR_DENIED: only the kubelet of the pod's node/
  await t.rejects(ask(requestOf(pod), ADMIN), { message: admission }, 'not even an administrator')
  await t.rejects(ask(requestOf(pod), NAMED_LIKE_ONE), { message: admission }, 'nor who has its name alone')
  await t.rejects(ask(requestOf(pod), OTHER_NODE), { message: /403/ }, 'nor another node in this one’s name')
  const elsewhere = requestOf(pod, { nodeName: 'node-2', nodeUID: 'n' })
  await t.rejects(ask(elsewhere), { message: /403/ }, 'nor a node for another')
  const promoted = requestOf(pod, {
    serviceAccountName: 'admin',
    serviceAccountUID: accounts.get('admin')?.metadata?.uid ?? '',
  })
  await t.rejects(ask(promoted), { message: /serviceAccountName .* differs from running pod/ })
  await t.rejects(ask(requestOf(pod, { stubPKCS10Request: kubeletStub(newKeys(), undefined, newKeys()) })), {
    message: /422.*invalid signature/,
  })
  const theirs = requestOf(pod, { signerName: 'other.example/signer' })
  t.ok(await ask(theirs, ADMIN), 'requests to other signers are not ours to judge')
})

t.test('without the admission policy the live pod is still what decides', { skip }, async t => {
  const { kube } = cluster.server
  const binding = `${ADMISSION}/validatingadmissionpolicybindings/postern-pod-certificates`
  await kube.delete(binding)
  t.teardown(() => cluster.server.kubectl(['apply', '-k', 'deploy']))
  const pod = await createPod(kube, 'cart-4')
  const forge = (change: Partial<Spec>) => ask(requestOf(pod, change), ADMIN)
  const first = await eventually(
    () => forge({ podName: 'nobody' }).catch(() => undefined),
    'the policy to be gone',
  )
  leader(t)
  const other = await createPod(kube, 'admin-4', 'admin')
  const forged = {
    'pod-uid': await forge({ podUID: 'former' }),
    'pod-service-account': await forge({ serviceAccountName: 'admin' }),
    'pod-node': await forge({ nodeName: 'node-2' }),
    'pod-exists': first,
  }
  for (const [rule, name] of Object.entries(forged)) {
    const { status } = await answered(name)
    t.match(status?.conditions, [{ type: 'Denied', message: `PSTN_CSR_DENIED ${rule}: ` }], rule)
  }
  const swapped = await ask(requestOf(other, { serviceAccountName: 'cart' }), ADMIN)
  t.match((await answered(swapped)).status?.conditions, [{ type: 'Denied', message: /pod-service-account/ }])
})

t.test('who is revoked waits, and is answered once that is lifted', { skip }, async t => {
  const { counted, revoked, said } = leader(t)
  revoked.set(revocationCheck({ ...NOBODY_REVOKED, identities: [identity] }))
  const pod = await createPod(cluster.server.kube, 'cart-5')
  const name = await askOnceKnown(requestOf(pod))
  await until(async () => counted.includes('waiting revoked'))
  revoked.set(undefined)
  revoked.set(revocationCheck({ ...NOBODY_REVOKED, pods: [pod.metadata?.uid ?? ''] }))
  await until(async () => counted.includes('retried'))
  t.equal((await read(name)).status?.conditions, undefined)
  revoked.set(revocationCheck(NOBODY_REVOKED))
  t.match((await answered(name)).status?.conditions, [{ type: 'Issued' }])
  t.equal(said('waits'), 1, 'told once')
})

for (const when of ['before', 'after'] as const satisfies Death['when'][]) {
  t.test(`a leader that dies just ${when} it could answer: one answer, and it stands`, { skip }, async t => {
    const mortal = mortalKube(cluster.injectorKube, { when, write: 1 })
    const first = leader(t, mortal.kube)
    const pod = await createPod(cluster.server.kube, `cart-6-${when}`)
    const keys = newKeys()
    const name = await askOnceKnown(requestOf(pod, {}, keys))
    await mortal.died
    await first.end()
    const left = await read(name)
    t.equal(isAnswered(left), when === 'after')
    const second = leader(t)
    await until(async () => second.said('are served') > 0)
    const { status } = await answered(name)
    if (when === 'after') t.same(status, left.status)
    chainOf({ ...left, status: status ?? {} }, keys.publicKey)
  })
}

t.test(
  'two leaders for a moment: each request has one answer, which neither takes for a failure',
  { skip },
  async t => {
    const leaders = [leader(t), leader(t), leader(t)]
    const names: string[] = []
    for (let index = 0; index < 12; index++) {
      const pod = await createPod(cluster.server.kube, `cart-7-${index}`)
      names.push(await askOnceKnown(requestOf(pod)))
    }
    for (const name of names) t.match((await answered(name)).status?.conditions, [{ type: 'Issued' }])
    await until(
      async () => leaders.flatMap(({ counted }) => counted).filter(one => one === 'issued').length >= 12,
    )
    const counted = leaders.flatMap(one => one.counted)
    t.equal(counted.filter(one => one === 'issued').length, 12)
    t.same(new Set(counted), new Set(['issued']))
  },
)

t.test('without the API nothing happens, which is said once; with it they are served', { skip }, async t => {
  const { server } = cluster
  await server.stop()
  await server.start([])
  const { said, counted } = leader(t)
  await until(async () => said('has no PodCertificateRequests') > 0)
  await systemClock.sleep(2_000, new AbortController().signal)
  t.equal(said(''), 1, 'after four looks nothing else was said')
  await server.stop()
  await server.start(POD_CERTIFICATE_FLAGS)
  await until(async () => said('are served') > 0)
  const pod = await createPod(server.kube, 'cart-8')
  t.match((await answered(await askOnceKnown(requestOf(pod)))).status?.conditions, [{ type: 'Issued' }])
  await server.stop()
  await server.start([])
  await until(async () => said('has no PodCertificateRequests') > 1)
  t.ok(counted.includes('issued'))
})
