// From the command to the refusal on a real API server: what an operator types reaches the control streams and the
// approver of a running injector, and goes away when it is lifted. Connections between sidecars: test/netns/revocation.
import { generateKeyPairSync } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type {
  CoreV1EventList,
  V1CertificateSigningRequest,
  V1ConfigMap,
  V1Pod,
} from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { certsRenew } from '../../cli/certs/renew.ts'
import { certsRevoke } from '../../cli/certs/revoke.ts'
import { type ControlStream, openControlStream } from '../../proxy/resolve/control-stream.ts'
import { KNOWN_FEATURES, type State } from '../../shared/control/messages.ts'
import { connectKube, type Kube } from '../../shared/kube/rest.ts'
import {
  csrName,
  INJECTOR_NAME,
  REVOCATIONS_CONFIGMAP,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { splitPem, type TrustBundle } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { typed as typedAt } from '../support/command-line.ts'
import { requireApiServer } from '../support/requirements.ts'
import { type InjectorProcess, startInjectorProcess } from './support/injector-process.ts'
import { createNamespace, createServiceAccount, install, systemPath, until } from './support/installation.ts'

const skip = requireApiServer()
const TRUST_DOMAIN = 'cluster.local'
const CSRS = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
const LIST = systemPath(`configmaps/${REVOCATIONS_CONFIGMAP}`)
/** From the command’s end until it has been heard of; a second is promised, and machines may be slow. */
const GENEROUS_MS = 5_000
const idOf = (serviceAccount: string, namespace = 'shop') =>
  workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace, serviceAccount })

const OPERATOR = `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: revoker, namespace: ${SYSTEM_NAMESPACE}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: postern-revoker}
subjects: [{kind: ServiceAccount, name: operator, namespace: people}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods, serviceaccounts], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:people"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "${WORKLOAD_ROLE}:shop"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ${WORKLOAD_ROLE}}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:shop"}]
`

t.test('revocation on a real API server', { skip }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer())
  const { kube } = server
  await install(server)
  for (const name of ['shop', 'people']) await createNamespace(kube, name)
  await kube.create('/api/v1/nodes', { metadata: { name: 'node-1' } })
  for (const name of ['web', 'db']) await createServiceAccount(kube, 'shop', name)
  for (const name of ['operator', 'reader']) await createServiceAccount(kube, 'people', name)
  const applied = await server.kubectl(['apply', '-f', '-'], OPERATOR)
  if (applied.code !== 0) throw new Error(applied.stderr)
  const directory = t.testdir()
  const start = async (name: string) => {
    const injector = await startInjectorProcess(server, { name, directory })
    undo.defer(() => injector.running.stop('SIGKILL'))
    return injector
  }
  const injector = await start('injector-0')
  await injector.ready()

  const typed = async (words: string, account = 'operator') => {
    const endpoint = server.endpointFor(await server.tokenFor('people', account))
    return typedAt(words.split(' '), {
      commands: [certsRevoke, certsRenew],
      connect: async () => connectKube(endpoint),
    })
  }
  const [first, second, db] = [
    await runningPod(kube, 'web-0', 'web'),
    await runningPod(kube, 'web-1', 'web'),
    await runningPod(kube, 'db-0', 'db'),
  ]
  const uid = ({ metadata }: V1Pod) => metadata?.uid ?? ''
  const bundle = await publishedBundle(kube)
  const ask = (pod: V1Pod, slot: number) => certificateOf(server, pod, slot)
  const [own, siblings, others] = [await ask(first, 0), await ask(second, 0), await ask(db, 0)]
  const sidecarOf = async (pod: V1Pod, credential: Credential) => {
    const stream = await dial(injector, credential, bundle)
    undo.defer(() => stream[Symbol.dispose]())
    return sidecar(stream, uid(pod))
  }
  const watching = await sidecarOf(db, others)

  await t.test('who is revoked is nobody at first', async t => {
    t.same((await watching.state()).revoked, { serials: [], identities: [], pods: [] })
    t.match(await typed('certs revoke'), { code: 0, out: 'nobody is revoked\n' })
  })

  await t.test('whoever has not the role revokes nobody', async t => {
    t.match(await typed(`certs revoke ${own.serial}`, 'reader'), { code: 1, err: /forbidden|403/i })
    t.match(await typed('certs renew --all', 'reader'), { code: 1, err: /forbidden|403/i })
  })

  await t.test('a pod: its stream ends, it gets no certificate, and its sibling does', async t => {
    const [victim, sibling] = [await sidecarOf(first, own), await sidecarOf(second, siblings)]
    await Promise.all([victim.state(), sibling.state()])
    t.match(await typed('certs revoke shop/web-0 --reason stolen'), {
      code: 0,
      out: /^revoked: pod shop\/web-0/,
    })
    await told(t, watching, ({ revoked }) => revoked?.pods.includes(uid(first)))
    t.match(await victim.end(), /PSTN_CERT_REVOKED/)
    t.match((await sibling.state()).revoked, { pods: [uid(first)] })
    await t.rejects(ask(first, 1), { message: /PSTN_CSR_DENIED revoked: the pod .* is revoked/ })
    t.ok((await ask(second, 1)).serial, 'control')
    t.match(await typed('certs revoke'), {
      out: /pod +shop\/web-0 .*system:serviceaccount:people:operator +stolen/,
    })
    t.match(await injector.log(), /"code":"PSTN_PEER_REVOKED"/)
  })

  await t.test('it is lifted, and the pod is as before', async t => {
    t.match(await typed('certs revoke shop/web-0 --undo'), { code: 0, out: /^lifted: pod shop\/web-0/ })
    await told(t, watching, ({ revoked }) => revoked?.pods.length === 0)
    t.ok((await ask(first, 2)).serial)
    await (await sidecarOf(first, own)).state()
    t.match(await typed('certs revoke shop/web-0 --undo'), { code: 1, err: /is not revoked/ })
  })

  await t.test('an identity: all pods of the service account, and no others', async t => {
    t.equal((await typed(`certs revoke ${idOf('web')}`)).code, 0)
    await told(t, watching, ({ revoked }) => revoked?.identities.includes(idOf('web')))
    for (const pod of [first, second]) await t.rejects(ask(pod, 3), { message: /revoked: the identity/ })
    t.match(await (await sidecarOf(first, own)).end(), /PSTN_CERT_REVOKED/)
    t.ok((await ask(db, 1)).serial, 'control')
    t.equal((await typed(`certs revoke ${idOf('web')} --undo`)).code, 0)
    await told(t, watching, ({ revoked }) => revoked?.identities.length === 0)
    t.match(await typed(`certs revoke ${idOf('misspelt')}`), { code: 0, err: /no such service account/ })
    await typed(`certs revoke ${idOf('misspelt')} --undo`)
    t.match(await typed(`certs revoke ${idOf(INJECTOR_NAME, SYSTEM_NAMESPACE)}`), {
      code: 2,
      err: /cannot be revoked/,
    })
  })

  await t.test('a serial: that certificate and no other, until it would have expired anyway', async t => {
    const written = own.serial.toUpperCase().replace(/..(?=.)/g, '$&:')
    t.equal((await typed(`certs revoke ${written} --until 2099-01-01T00:00:00Z`)).code, 0)
    await told(t, watching, ({ revoked }) => revoked?.serials.includes(own.serial))
    t.match(await (await sidecarOf(first, own)).end(), /PSTN_CERT_REVOKED/)
    const renewed = await ask(first, 4)
    await (await sidecarOf(first, renewed)).state()
    t.equal(await injector.metric('postern_revocations\\{kind="serial"\\}'), 1)
  })

  await t.test('an order to renew reaches the sidecars that it is for', async t => {
    t.match(await typed('certs renew shop/db-0'), { code: 0, out: 'shop/db-0 renews within 0 s\n' })
    await told(t, watching, ({ renew }) => renew?.withinSeconds === 0)
    t.match(await typed('certs renew --all --within 2h'), {
      code: 0,
      out: 'every sidecar renews within 7200 s\n',
    })
    await told(t, watching, ({ renew }) => renew?.withinSeconds === 7200)
    t.match(await typed('certs renew'), { code: 2, err: /or --all/ })
    t.match(await typed('certs renew --all --within soon'), { code: 2, err: /such as 90s/ })
    t.match(await typed('certs renew shop/none'), { code: 1, err: /there is no pod shop\/none/ })
  })

  await t.test('two who revoke at once both do', async t => {
    const serials = ['aa01', 'aa02', 'aa03', 'aa04']
    const codes = await Promise.all(serials.map(serial => typed(`certs revoke ${serial}`)))
    t.same(
      codes.map(({ code }) => code),
      [0, 0, 0, 0],
    )
    await told(t, watching, ({ revoked }) => serials.every(serial => revoked?.serials.includes(serial)))
  })

  const put = (data: Record<string, string>) => kube.patch(LIST, 'application/merge-patch+json', { data })
  await t.test('a list that does not parse leaves the last good one in force, and says so', async t => {
    const { data: good = {} } = await kube.get<V1ConfigMap>(LIST)
    await put({ 'revocations.json': '[{"kind": "serial", "serial": "nonsense"}]' })
    await until(async () => /revocations cannot be read/.test(await injector.log()))
    t.match(await injector.log(), /revocations\.json\[0\]\.serial: must be a serial/)
    t.equal(await injector.metric('postern_revocations_invalid\\{in_force="last good"\\}'), 1)
    t.match(await (await sidecarOf(first, own)).end(), /PSTN_CERT_REVOKED/)
    t.match(await typed('certs revoke'), { code: 1, err: /PSTN_REVOCATION_INVALID: revocations\.json\[0\]/ })
    const events = await kube.get<CoreV1EventList>(systemPath('events'))
    t.ok(events.items.some(({ reason }) => reason === 'RevocationsInvalid'))

    const second = await start('injector-1')
    await delay(3_000)
    await t.rejects(
      Promise.race([second.ready(), delay(2_000).then(() => Promise.reject(new Error('waits')))]),
      {
        message: 'waits',
      },
    )
    t.match(await readyz(second), /waiting for .*who is revoked/)
    await put({ 'revocations.json': good['revocations.json'] ?? '' })
    await second.ready()
    t.equal((await typed('certs revoke')).code, 0)
  })
})

type Credential = Awaited<ReturnType<typeof certificateOf>>

async function readyz(injector: InjectorProcess): Promise<string> {
  return (await fetch(`http://127.0.0.1:${injector.ports.metrics}/readyz`)).text()
}

/** Waits for a state like this, and tells how long that took. */
async function told(t: Test, sidecar: Sidecar, test: (state: State) => boolean | undefined): Promise<void> {
  const started = performance.now()
  while (!test(await sidecar.state())) {
    if (performance.now() - started > GENEROUS_MS) throw new Error('not told')
  }
  t.comment(`told ${Math.round(performance.now() - started)} ms after the command had ended`)
}

type Sidecar = {
  /** The next one. */
  state(): Promise<State>
  /** How the stream ends. */
  end(): Promise<string>
}

function sidecar(stream: ControlStream, podUid: string): Sidecar {
  const messages = stream.received()
  stream.send({ kind: 'hello', podUid, version: 'test', features: KNOWN_FEATURES })
  const state = async (): Promise<State> => {
    for (;;) {
      const { value, done } = await messages.next()
      if (done) throw new Error('the stream has ended')
      if (value.kind === 'state') return value
    }
  }
  return {
    state,
    end: async (): Promise<string> => {
      try {
        for (;;) await state()
      } catch (thrown) {
        return `${Reflect.get(Object(thrown), 'code')} ${thrown}`
      }
    },
  }
}

const dial = (injector: InjectorProcess, credential: Credential, bundle: TrustBundle) =>
  openControlStream(
    {
      address: `127.0.0.1:${injector.ports.control}`,
      identity: idOf(INJECTOR_NAME, SYSTEM_NAMESPACE),
      credential,
      bundle,
      now: Date.now(),
    },
    new AbortController().signal,
  )

async function publishedBundle(kube: Kube): Promise<TrustBundle> {
  let roots: string[] = []
  await until(async () => {
    const read = kube.get<V1ConfigMap>(systemPath(`configmaps/${TRUST_CONFIGMAP}`))
    roots = await read.then(
      ({ data = {} }) => splitPem(data['roots.pem'] ?? ''),
      () => [],
    )
    return roots.length > 0
  })
  return { trustDomain: TRUST_DOMAIN, roots }
}

/** With a sidecar, as the directory sees it, at the test’s own address. */
async function runningPod(kube: Kube, name: string, serviceAccountName: string): Promise<V1Pod> {
  const pod = await kube.create<V1Pod>('/api/v1/namespaces/shop/pods', {
    metadata: { name },
    spec: {
      serviceAccountName,
      nodeName: 'node-1',
      containers: [{ name: 'app', image: 'none' }],
      initContainers: [{ name: 'postern-proxy', image: 'none', restartPolicy: 'Always' }],
    },
  })
  const status = { podIPs: [{ ip: '127.0.0.1' }], podIP: '127.0.0.1', phase: 'Running' }
  await kube.patch(`/api/v1/namespaces/shop/pods/${name}/status`, 'application/merge-patch+json', { status })
  return pod
}

/** Through the pod's own token. Rejects with the reason if it is denied. */
async function certificateOf(server: ApiServer, { metadata = {}, spec }: V1Pod, slot: number) {
  const { name = '', uid = '' } = metadata
  const serviceAccount = spec?.serviceAccountName ?? ''
  const token = await server.tokenFor('shop', serviceAccount, { pod: { name, uid } })
  using asPod = connectKube(server.endpointFor(token))
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const csr = csrName(uid, slot)
  await asPod.create(CSRS, {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name: csr },
    spec: {
      signerName: WORKLOAD_SIGNER,
      request: Buffer.from(createCsr(keys, idOf(serviceAccount))).toString('base64'),
      usages: ['digital signature', 'server auth', 'client auth'],
      expirationSeconds: 3600,
    },
  })
  let chain = ''
  await until(async () => {
    const { status } = await asPod.get<V1CertificateSigningRequest>(`${CSRS}/${csr}`)
    const denied = status?.conditions?.find(({ type }) => type !== 'Approved')
    if (denied) throw new Error(denied.message)
    chain = Buffer.from(status?.certificate ?? '', 'base64').toString()
    return chain !== ''
  })
  const key = String(keys.privateKey.export({ format: 'pem', type: 'pkcs8' }))
  return { chain, key, serial: parseCertificate(chain).serial }
}
