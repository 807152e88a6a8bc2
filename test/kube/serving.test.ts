// postern.dev/serving on a real API server: the commands of docs/signers.md, run as they stand there with the real openssl
// and kubectl by people who have the rights that it names and no others, then a TLS server with what they gave.
import { generateKeyPairSync } from 'node:crypto'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkServerIdentity, connect, createServer } from 'node:tls'
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { CSR_PATH } from '../../injector/signer/objects.ts'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { clientTlsOptions, serverTlsOptions } from '../../shared/tls/contexts.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { binary } from '../cluster/binaries.ts'
import { blocksOf } from '../support/markdown.ts'
import { type Output, run } from '../support/processes.ts'
import { requireApiServer, requireCommands } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { servingObject, servingPem } from '../support/serving-request.ts'
import { meet } from '../support/tls-meeting.ts'
import { UNSIGNED } from '../vectors/csr/serving.ts'
import { createNamespace, createServiceAccount } from './support/installation.ts'
import { answered, type SignerCluster, startSignerCluster, TRUST_DOMAIN } from './support/signer-cluster.ts'

const skip = requireApiServer() || requireCommands('openssl', 'bash', 'base64')
const leader = new AbortController()
let cluster: SignerCluster
let running: Promise<void> = Promise.resolve()
const directory = scratchDirectory(t)

/** What the page takes for granted: an owner who may ask and keep Secrets in shop, and the page's own binding. */
const PEOPLE = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: asks}
rules:
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [create, get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: asks}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: asks}
subjects: [{kind: ServiceAccount, name: owner, namespace: people}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: owner, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: owner, namespace: people}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: edit-secrets, namespace: shop}
rules: [{apiGroups: [""], resources: [secrets], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edit-secrets, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: edit-secrets}
subjects: [{kind: ServiceAccount, name: owner, namespace: people}]
`

const steps = blocksOf(await readFile(new URL('../../docs/signers.md', import.meta.url), 'utf8'))
  .filter(({ language, heading }) => language === 'sh' && heading === 'Serving certificates')
  .map(({ text }) => text)
const [ask = '', approve = '', fetchIt = '', grant = ''] = steps

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  const { kube, kubectl } = cluster.server
  await kube.create(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`, {
    metadata: { name: TRUST_CONFIGMAP },
    data: { 'trust-domain': TRUST_DOMAIN, 'roots.pem': cluster.keeper.authority.get().roots.join('') },
  })
  await createNamespace(kube, 'people')
  for (const name of ['owner', 'approver']) {
    await createServiceAccount(kube, 'people', name)
    await beSomebody(name)
  }
  const applied = await kubectl(['apply', '-f', '-'], PEOPLE)
  if (applied.code !== 0) throw new Error(applied.stderr)
  running = cluster.controller().run(leader.signal)
})
t.teardown(async () => {
  leader.abort()
  await running
  await cluster?.[Symbol.asyncDispose]()
})

/** A kubeconfig with a token of the service account, and the API server's kubectl beside it. */
async function beSomebody(name: string): Promise<void> {
  const { server } = cluster
  const token = await server.tokenFor('people', name)
  const ca = Buffer.from(server.ca).toString('base64')
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'it', cluster: { server: server.serverUrl, 'certificate-authority-data': ca } }],
    users: [{ name, user: { token } }],
    contexts: [{ name: 'it', context: { cluster: 'it', user: name } }],
    'current-context': 'it',
  }
  await mkdir(join(directory, 'bin'), { recursive: true })
  await symlink(await binary('kubectl'), join(directory, 'bin/kubectl')).catch(() => undefined)
  await writeFile(join(directory, `${name}.kubeconfig`), JSON.stringify(config))
}

/** Runs a block of the page as that person would, stopping at the first command that fails. */
function as(name: string, script: string): Promise<Output> {
  const variables = [
    `PATH=${join(directory, 'bin')}:${process.env.PATH}`,
    `HOME=${directory}`,
    `KUBECONFIG=${join(directory, `${name}.kubeconfig`)}`,
  ]
  return run('env', [...variables, 'bash', '-euo', 'pipefail', '-c', `cd ${directory}\n${script}`])
}

const file = (name: string): Promise<string> => readFile(join(directory, name), 'utf8')
const requestNamed = (name: string) =>
  cluster.server.kube.get<V1CertificateSigningRequest>(`${CSR_PATH}/${name}`)

t.test('the commands of the page, step by step', { skip }, async t => {
  const asked = await as('owner', ask)
  t.equal(asked.code, 0, asked.stderr)

  const stranger = await as('approver', approve)
  t.not(stranger.code, 0, 'nobody may approve as installed')
  t.match(stranger.stderr, /forbidden/i)
  const owner = await as('owner', 'kubectl certificate approve web-serving')
  t.match(owner.stderr, /forbidden/i, 'the one who asks may not either')

  t.match(grant, /--group=platform-team/)
  const granted = grant.trim().replace('--group=platform-team', '--serviceaccount=people:approver')
  const { code, stderr } = await cluster.server.kubectl(granted.split(' ').slice(1))
  t.equal(code, 0, stderr)

  t.equal(
    (await requestNamed('web-serving')).status?.conditions,
    undefined,
    'nothing has approved it meanwhile',
  )
  const approved = await as('approver', approve)
  t.equal(approved.code, 0, approved.stderr)
  t.match(approved.stdout, /^system:serviceaccount:people:owner\n/)
  t.match(approved.stdout, /DNS:web\.shop\.svc, DNS:web\.shop\.svc\.cluster\.local, IP Address:10\.96\.0\.42/)

  const fetched = await as('owner', fetchIt)
  t.equal(fetched.code, 0, fetched.stderr)
  t.match(fetched.stdout, /^web\.crt: OK$/m)
  const secret = await cluster.server.kube.get<{ type: string }>(
    '/api/v1/namespaces/shop/secrets/web-serving',
  )
  t.equal(secret.type, 'kubernetes.io/tls')
})

t.test(
  'a TLS server with that Secret is believed for its names, by the trust bundle alone',
  { skip },
  async t => {
    const [key, cert, roots] = [await file('web.key'), await file('web.crt'), await file('roots.pem')]
    const server = createServer({ key, cert }, socket => socket.end('served'))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const address = server.address()
    const port = typeof address === 'object' && address ? address.port : 0
    /** The flaw that a client which expects `name` finds, or what was served. */
    const dial = async (name: string, ca: string[]): Promise<string> => {
      const checked = (_: string, peer: Parameters<typeof checkServerIdentity>[1]) =>
        checkServerIdentity(name, peer)
      const socket = connect({ host: '127.0.0.1', port, ca, checkServerIdentity: checked })
      try {
        return (await socket.toArray()).join('')
      } catch (thrown) {
        return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : String(thrown)
      }
    }
    for (const name of ['web.shop.svc', 'web.shop.svc.cluster.local', '10.96.0.42'])
      t.equal(await dial(name, [roots]), 'served', name)
    t.equal(await dial('db.shop.svc', [roots]), 'ERR_TLS_CERT_ALTNAME_INVALID')
    t.equal(await dial('web.shop.svc', []), 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY')
  },
)

t.test('no sidecar takes the owner of a serving certificate for a peer, at either end', { skip }, async t => {
  const serving = { key: await file('web.key'), chain: await file('web.crt') }
  const bundle = { trustDomain: TRUST_DOMAIN, roots: splitPem(await file('roots.pem')) }
  const workload = await workloadCertificate()
  const asServer = (own: typeof serving) => serverTlsOptions(own, bundle)
  const asClient = (own: typeof serving) => clientTlsOptions(own, bundle)
  const expected = workload.identity
  const control = await meet({ server: asServer(workload), client: asClient(workload), bundle, expected })
  t.match(control, { byServer: { identity: expected }, byClient: { identity: expected } })
  const asCaller = await meet({ server: asServer(workload), client: asClient(serving), bundle })
  t.equal(asCaller.byServer, 'PSTN_PEER_USAGE')
  const asCalled = await meet({ server: asServer(serving), client: asClient(workload), bundle, expected })
  t.equal(asCalled.byClient, 'PSTN_PEER_ID_INVALID')
})

async function workloadCertificate() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const identity = workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: 'cart' })
  const { chain } = await cluster.keeper.authority.get().issue({
    publicKeySpki: publicKey.export({ format: 'der', type: 'spki' }),
    dnsNames: [],
    uri: identity,
    lifetimeSeconds: 600,
    now: Date.now(),
  })
  return { identity, chain, key: String(privateKey.export({ format: 'pem', type: 'pkcs8' })) }
}

/** Sends and approves it as an administrator; what became of it, in words. */
async function fate(object: V1CertificateSigningRequest): Promise<string> {
  const { kube, kubectl } = cluster.server
  await kube.create(CSR_PATH, object)
  const { code, stderr } = await kubectl(['certificate', 'approve', object.metadata?.name ?? ''])
  if (code !== 0) throw new Error(stderr)
  const { status } = await answered(kube, object)
  const failed = status?.conditions?.find(({ type }) => type === 'Failed')
  return failed ? `${failed.reason}: ${failed.message}` : 'signed'
}

for (const [index, { name, because, ...one }] of UNSIGNED.entries()) {
  t.test(`approved by mistake, a request with ${name} is not signed`, { skip }, async t => {
    const became = await fate(
      servingObject(`unsigned-${index}`, servingPem({ name, ...one }), { name, ...one }),
    )
    t.match(became, /^PosternFailed: PSTN_CSR_FAILED /)
    t.match(became, because)
  })
}

t.test('one that failed does not hold up the next, and a new leader signs what waits', { skip }, async t => {
  leader.abort()
  await running
  const object = servingObject('waits', servingPem({ name: 'waits' }))
  await cluster.server.kube.create(CSR_PATH, object)
  await cluster.server.kubectl(['certificate', 'approve', 'waits'])
  const stop = new AbortController()
  const next = cluster.controller().run(stop.signal)
  const { status } = await answered(cluster.server.kube, object)
  const chain = Buffer.from(status?.certificate ?? '', 'base64').toString()
  t.same(parseCertificate(splitPem(chain)[0] ?? '').dnsSans, ['web.shop.svc'])
  stop.abort()
  await next
})
