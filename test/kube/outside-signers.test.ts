// A mesh whose workloads cert-manager signs: its real controller beside a real API server, the injector as a process with
// the rights of deploy/outside-signer, and sidecars' own credential source.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { V1CertificateSigningRequest, V1ConfigMap } from '@kubernetes/client-node'
import t from 'tap'
import { createIssuer, createRoot } from '../../injector/ca/authority.ts'
import { openControlStream } from '../../proxy/resolve/control-stream.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import {
  csrName,
  INJECTOR_NAME,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { clientTlsOptions, serverTlsOptions } from '../../shared/tls/contexts.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer, requireGo } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { meet } from '../support/tls-meeting.ts'
import { type AskingPod, askingPod } from './support/asking-pod.ts'
import { CERT_MANAGER_SIGNER, startCertManager } from './support/cert-manager.ts'
import { type InjectorProcess, startInjectorProcess } from './support/injector-process.ts'
import { install, outcome, systemPath, until } from './support/installation.ts'
import { installOutsideSigner } from './support/outside-signer.ts'
import { NODE } from './support/signer-cluster.ts'

const skip = requireApiServer() || requireGo()
const TRUST_DOMAIN = 'cluster.local'
const MAX_SECONDS = 3600
const CSRS = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
const idOf = (namespace: string, serviceAccount: string) =>
  workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace, serviceAccount })
const CART = idOf('shop', 'cart')

const MESH = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart, namespace: shop}
---
apiVersion: v1
kind: Node
metadata: {name: ${NODE}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "${WORKLOAD_ROLE}:shop"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ${WORKLOAD_ROLE}}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:shop"}]
`

/** A company's CA: of another name than ours would have, an issuer under it, and the key of each. */
async function company() {
  const root = await createRoot(TRUST_DOMAIN, Date.now())
  return { root, issuer: await createIssuer(root, TRUST_DOMAIN, Date.now()) }
}

t.test('a mesh that cert-manager signs for', { skip }, async t => {
  const directory = scratchDirectory(t)
  await using undo = new AsyncDisposableStack()
  const server: ApiServer = undo.use(await startApiServer())
  const { kube, kubectl } = server
  await install(server)
  await installOutsideSigner(server, CERT_MANAGER_SIGNER, directory)
  const applied = await kubectl(['apply', '-f', '-'], MESH)
  if (applied.code !== 0) throw new Error(applied.stderr)

  const ca = await company()
  const trustRootsFile = join(directory, 'roots.pem')
  await writeFile(trustRootsFile, ca.root.certificate)
  const began = performance.now()
  const chain = ca.issuer.certificate + ca.root.certificate
  const certManager = undo.use(await startCertManager(server, directory, { chain, key: ca.issuer.key }))
  t.comment(`cert-manager was ready after ${Math.round(performance.now() - began)} ms`)
  const settings = { signerName: CERT_MANAGER_SIGNER, trustRootsFile, maxLeafLifetimeSeconds: MAX_SECONDS }
  const injector: InjectorProcess = await startInjectorProcess(server, {
    name: 'injector',
    directory,
    settings,
  })
  undo.defer(() => injector.running.stop('SIGKILL'))
  await injector.ready()

  const published = async () => {
    const { data } = await kube.get<V1ConfigMap>(systemPath(`configmaps/${TRUST_CONFIGMAP}`))
    return splitPem(data?.['roots.pem'] ?? '')
  }
  const ask = (name: string, lifetimeSeconds = MAX_SECONDS): Promise<AskingPod> =>
    askingPod(t, { server }, name, { signerName: CERT_MANAGER_SIGNER, lifetimeSeconds, timeoutMs: 20_000 })
  const requestOf = ({ uid }: AskingPod) =>
    kube.get<V1CertificateSigningRequest>(`${CSRS}/${csrName(uid, 0)}`)

  await t.test(
    'the trust bundle is its roots and our own, which the injector’s certificate is from',
    async t => {
      await until(async () => (await published().catch(() => [])).length === 2)
      const [theirs, ours] = await published()
      t.equal(theirs, ca.root.certificate)
      const secret = await kube.get<{ data: Record<string, string> }>(systemPath('secrets/postern-ca'))
      t.equal(ours, Buffer.from(secret.data['root.crt'] ?? '', 'base64').toString())
    },
  )

  const cart = await ask('cart-0')
  const own = await cart.next()

  await t.test('our approver approves, cert-manager signs, the sidecar accepts', async t => {
    const { status } = await requestOf(cart)
    t.match(status?.conditions, [{ type: 'Approved', reason: 'PosternApproved' }])
    t.same(cart.failures(), [])
    t.equal(own.identity, CART)
    const [leaf, issuer, ...more] = splitPem(own.chain).map(parseCertificate)
    t.same(more, [], 'without the root')
    t.equal(issuer?.pem, ca.issuer.certificate)
    t.ok(leaf && issuer && leaf.isSignedBy(issuer))
    const seconds = ((leaf?.notAfter.getTime() ?? 0) - (leaf?.notBefore.getTime() ?? 0)) / 1000
    t.equal(seconds, MAX_SECONDS, 'as long as asked, by expirationSeconds')
  })

  await t.test(
    'what stands in its certificates is what the request says: no pod, no names of Services',
    async t => {
      const leaf = parseCertificate(splitPem(own.chain)[0] ?? '')
      t.same(leaf.uriSans, [CART])
      t.same(leaf.dnsSans, [])
      t.equal(leaf.x509.subject, undefined)
      t.ok(Date.now() - leaf.notBefore.getTime() < 60_000, 'and it is not backdated: clocks must agree')
    },
  )

  await t.test('our own signer has issued nothing', async t => {
    const metrics = await (await fetch(`http://127.0.0.1:${injector.ports.metrics}/metrics`)).text()
    t.match(metrics, /^postern_certificate_requests_total\{outcome="approved",rule=""\} 1$/m)
    t.notMatch(metrics, /outcome="issued"/)
  })

  await t.test('two workloads meet by the published bundle', async t => {
    const peer = await (await ask('cart-1')).next()
    const bundle = { trustDomain: TRUST_DOMAIN, roots: await published() }
    const met = await meet({
      server: serverTlsOptions(own, bundle),
      client: clientTlsOptions(peer, bundle),
      bundle,
      expected: CART,
    })
    t.match(met, { byServer: { identity: CART }, byClient: { identity: CART } })
  })

  await t.test('the control stream: the sidecar knows the injector, the injector the sidecar', async t => {
    // A bundle is a set: two writers may put it in two orders.
    const bundle = { trustDomain: TRUST_DOMAIN, roots: (await published()).toSorted() }
    const running = { phase: 'Running', podIP: '127.0.0.1', podIPs: [{ ip: '127.0.0.1' }] }
    const pod = '/api/v1/namespaces/shop/pods/cart-0/status'
    await kube.patch(pod, 'application/merge-patch+json', { status: running })
    const target = {
      address: `127.0.0.1:${injector.ports.control}`,
      identity: idOf(SYSTEM_NAMESPACE, INJECTOR_NAME),
      credential: own,
      bundle,
      now: Date.now(),
    }
    using stream = await openControlStream(target, AbortSignal.timeout(10_000))
    stream.send({ kind: 'hello', podUid: cart.uid, version: 'test', features: ['l4'] })
    const { value } = await stream.received().next()
    t.match(value, { kind: 'state', trust: [{ trustDomain: TRUST_DOMAIN }] })
    t.same(value?.trust[0].roots.toSorted(), bundle.roots)
  })

  await t.test('what our signer would shorten is denied: cert-manager would sign ten years', async t => {
    const greedy = await ask('cart-greedy', 315_360_000)
    await until(async () => greedy.failures().length > 0)
    t.match(greedy.failures()[0], /^PSTN_CSR_DENIED .* lifetime: expirationSeconds must be at most 3600/)
    t.equal((await requestOf(greedy)).status?.certificate, undefined)
    await greedy.stop()
  })

  await t.test('no sidecar can ask cert-manager for a CA, or for a longer life by annotation', async t => {
    const pod = await askingPod(t, { server }, 'cart-annotates', { idle: true })
    const { spec } = await requestOf(cart)
    const { request, usages, expirationSeconds } = spec
    using client = connectKube(server.endpointFor(pod.token))
    const attempt = (signerName: string, annotations: Record<string, string>) =>
      outcome(() =>
        client.create(`${CSRS}?dryRun=All`, {
          metadata: { name: csrName(pod.uid, 0), annotations },
          spec: { request, usages, expirationSeconds, signerName },
        }),
      )
    t.equal(await attempt(CERT_MANAGER_SIGNER, {}), 'allowed')
    const experimental = 'experimental.cert-manager.io'
    for (const annotation of [`${experimental}/request-is-ca`, `${experimental}/request-duration`])
      t.match(await attempt(CERT_MANAGER_SIGNER, { [annotation]: 'true' }), /annotations, owners and/)
    t.match(await attempt(WORKLOAD_SIGNER, {}), /may only ask the signer 'clusterissuers/)
  })

  await t.test('an issuer of another root is refused until its root is told, without a restart', async t => {
    const next = await company()
    await certManager.use({ chain: next.root.certificate, key: next.root.key })
    const late = await ask('cart-late')
    await until(async () => late.failures().length > 0)
    t.match(late.failures()[0], /^PSTN_CSR_ANSWER_INVALID .* does not lead to a root of the trust bundle/)
    await writeFile(trustRootsFile, ca.root.certificate + next.root.certificate)
    const credential = await late.next()
    t.same(await published().then(roots => roots.slice(0, 2)), [ca.root.certificate, next.root.certificate])
    t.equal(
      splitPem(credential.chain).length,
      1,
      'a root that signs by itself gives a chain of the leaf alone',
    )
  })

  await t.test('a file of roots that cannot be used changes nothing, and says so', async t => {
    await writeFile(trustRootsFile, 'half a roll-out')
    await until(async () => (await injector.metric('postern_trust_roots_refused')) === 1)
    t.equal((await published()).length, 3)
    t.match(await injector.log(), /PSTN_TRUST_INVALID/)
  })
})
