// Two injector processes against a real API server with the manifests installed: what each replica does, what only the
// leader does, and what happens when the leader dies.
import { generateKeyPairSync } from 'node:crypto'
import type {
  CoreV1EventList,
  V1CertificateSigningRequest,
  V1ClusterRoleBinding,
  V1ConfigMap,
  V1Pod,
  V1Service,
} from '@kubernetes/client-node'
import t from 'tap'
import { type ControlStream, openControlStream } from '../../proxy/resolve/control-stream.ts'
import type { FromInjector } from '../../shared/control/messages.ts'
import { connectKube, type Kube } from '../../shared/kube/rest.ts'
import {
  csrName,
  INJECTOR_NAME,
  POLICY_LABEL,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../shared/names.ts'
import { compile } from '../../shared/policy/compile.ts'
import { evaluate } from '../../shared/policy/evaluate.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { splitPem, type TrustBundle } from '../../shared/trust-bundle.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { type InjectorProcess, startInjectorProcess } from './support/injector-process.ts'
import {
  createNamespace,
  createServiceAccount,
  install,
  outcome,
  systemPath,
  until,
} from './support/installation.ts'
import { pointWebhooksAt } from './support/webhook-configurations.ts'

const skip = requireApiServer()
const TRUST_DOMAIN = 'cluster.local'
const idOf = (namespace: string, serviceAccount: string) =>
  workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace, serviceAccount })

t.test('the injector on a real API server', { skip }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer())
  const { kube } = server
  await install(server)
  for (const name of ['shop', 'bank']) await createNamespace(kube, name)
  await kube.create('/api/v1/nodes', { metadata: { name: 'node-1' } })
  for (const name of ['web', 'db']) await createServiceAccount(kube, 'shop', name)

  const directory = t.testdir()
  const replica = async (name: string, settings?: object) => {
    const injector = await startInjectorProcess(server, { name, directory, ...(settings && { settings }) })
    undo.defer(() => injector.running.stop('SIGKILL'))
    return injector
  }
  const replicas = [await replica('injector-0'), await replica('injector-1')]
  const leaders = async () => {
    const leading = replicas.map(
      async injector => (await injector.metric('postern_leader').catch(() => 0)) === 1,
    )
    const flags = await Promise.all(leading)
    return replicas.filter((_, index) => flags[index])
  }
  let leader: InjectorProcess
  let other: InjectorProcess

  await t.test('both replicas become ready, and exactly one leads', async t => {
    await Promise.all(replicas.map(injector => injector.ready()))
    await until(async () => (await leaders()).length === 1)
    t.equal((await leaders()).length, 1)
  })
  const [first, second] = replicas
  if (!first || !second) throw new Error('two replicas were started')
  leader = (await leaders()).includes(first) ? first : second
  other = leader === first ? second : first

  let bundle: TrustBundle = { trustDomain: TRUST_DOMAIN, roots: [] }
  await t.test('the CA is created once and its root published', async t => {
    const read = () => kube.get<V1ConfigMap>(systemPath(`configmaps/${TRUST_CONFIGMAP}`))
    await until(() =>
      read().then(
        () => true,
        () => false,
      ),
    )
    const { data = {} } = await read()
    t.equal(data['trust-domain'], TRUST_DOMAIN)
    bundle = { trustDomain: TRUST_DOMAIN, roots: splitPem(data['roots.pem'] ?? '') }
    t.equal(bundle.roots.length, 1)
  })

  await pointWebhooksAt(server, other)
  const web = await admitted(kube, 'web')
  await t.test('a pod that opts in gets its sidecar, and its namespace may request certificates', async t => {
    t.same(
      web.spec?.initContainers?.map(({ name }) => name),
      ['postern-init', 'postern-proxy'],
    )
    const binding = await kube.get<V1ClusterRoleBinding>(
      `/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/${WORKLOAD_ROLE}:shop`,
    )
    t.match(binding.subjects, [{ kind: 'Group', name: 'system:serviceaccounts:shop' }])
  })

  const credential = await issued(server, web, 'web')
  await t.test('the leader signs what a pod asks for', async t => {
    t.match(credential.chain, /^-----BEGIN CERTIFICATE-----/)
  })

  const dial = (injector: InjectorProcess, own = credential): Promise<ControlStream> =>
    openControlStream(
      {
        address: `127.0.0.1:${injector.ports.control}`,
        identity: idOf(SYSTEM_NAMESPACE, INJECTOR_NAME),
        credential: own,
        bundle,
        now: Date.now(),
      },
      new AbortController().signal,
    )
  const hello = { kind: 'hello', podUid: web.metadata?.uid ?? '', version: 'test', features: ['l4'] } as const

  await t.test('the control stream of a pod carries its state and what it asks for', async t => {
    const { spec } = await kube.get<V1Service>('/api/v1/namespaces/default/services/kubernetes')
    const kubernetes = spec?.clusterIP ?? ''
    for (const injector of replicas) {
      using stream = await dial(injector)
      const next = inbox(stream)
      stream.send(hello)
      stream.send({ kind: 'subscribe', addresses: ['127.0.0.1', kubernetes] })
      const [state, addresses] = [await next(), await next()]
      t.match(state, { kind: 'state', policy: { mode: { inbound: 'permissive' } }, trust: [bundle] })
      t.match(addresses, {
        entries: [
          { kind: 'mesh', address: '127.0.0.1', pod: { identity: idOf('shop', 'web') } },
          { kind: 'service', address: kubernetes, service: 'default/kubernetes' },
        ],
      })
    }
  })

  await t.test('a policy reaches every replica’s sidecars within a second', async t => {
    const streams = await Promise.all(replicas.map(injector => dial(injector)))
    const inboxes = streams.map(inbox)
    for (const stream of streams) stream.send(hello)
    await Promise.all(inboxes.map(next => next()))
    const started = performance.now()
    await kube.create('/api/v1/namespaces/shop/configmaps', {
      metadata: { name: 'policy', labels: { [POLICY_LABEL]: 'true' } },
      data: {
        'deny.yaml': `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed}\nspec: {}`,
      },
    })
    for (const next of inboxes) t.match(await next(), { policy: { policies: [{ name: 'shop/closed' }] } })
    const ms = performance.now() - started
    t.ok(ms < 1_000, `${Math.round(ms)} ms`)
    for (const stream of streams) stream[Symbol.dispose]()
  })

  await t.test('a policy that does not parse is refused when it is written', async t => {
    const labels = { [POLICY_LABEL]: 'true' }
    const bad = { metadata: { name: 'bad', labels }, data: { 'x.yaml': 'kind: Nothing' } }
    const message = await outcome(() => kube.create('/api/v1/namespaces/shop/configmaps', bad))
    t.match(message, /x\.yaml:1:1/)
  })

  await t.test(
    'what slips past admission leaves the last good policy in force; a new replica denies',
    async t => {
      // As when the webhook was away while somebody wrote.
      const webhooks = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations'
      await kube.delete(`${webhooks}/${INJECTOR_NAME}`)
      const write = (text: string) =>
        kube.patch('/api/v1/namespaces/shop/configmaps/policy', 'application/merge-patch+json', {
          data: { 'deny.yaml': text },
        })
      /** What the replica tells a sidecar to do with any caller. */
      const verdict = async (injector: InjectorProcess) => {
        using stream = await dial(injector)
        stream.send(hello)
        const state = await inbox(stream)()
        if (state.kind !== 'state') throw new Error('the state comes first')
        return evaluate(compile(state.policy, { trustDomain: TRUST_DOMAIN }), CALL)
      }
      const invalid = async ({ ports }: InjectorProcess) => {
        const text = await (await fetch(`http://127.0.0.1:${ports.metrics}/metrics`)).text()
        return /^postern_policies_invalid\{namespace="shop",config_map="policy",in_force="(.*)"\} 1$/m.exec(
          text,
        )?.[1]
      }
      await write(OPEN)
      await until(async () => (await verdict(leader)).allow)
      await until(() =>
        write(`${OPEN}  acton: ALLOW\n`).then(
          () => true,
          () => false,
        ),
      )
      await until(async () => (await invalid(leader)) === 'last good')
      t.match(await verdict(leader), { allow: true }, 'the last good one stays')

      const restarted = await replica('injector-3')
      await restarted.ready()
      t.equal(await invalid(restarted), 'deny all')
      t.match(await verdict(restarted), {
        allow: false,
        code: 'PSTN_POLICY_UNSUPPORTED',
        policy: 'shop/policy',
      })
      const said = /PSTN_POLICY_INVALID.*deny\.yaml:6:3: spec\.acton: unknown field.*action/
      await until(async () => said.test(await restarted.log()))
      await until(async () => {
        const { items } = await kube.get<CoreV1EventList>('/api/v1/namespaces/shop/events')
        return items.some(
          ({ reason, message = '' }) =>
            reason === 'PolicyInvalid' && /spec\.acton.*the last good/.test(message),
        )
      })

      await write(OPEN)
      await until(async () => (await invalid(restarted)) === undefined)
      t.match(await verdict(restarted), { allow: true }, 'and a good one heals it')
      await restarted.running.stop('SIGKILL')
    },
  )

  await t.test('the certificate of another service account is rejected', async t => {
    const db = await admitted(kube, 'db')
    using stream = await dial(leader, await issued(server, db, 'db'))
    stream.send(hello)
    await t.rejects(inbox(stream)(), {
      code: 'PSTN_CONTROL_REJECTED',
      message: /sa\/db, pod shop\/web is .*sa\/web/,
    })
  })

  await t.test('when the leader is killed the other leads and signs', async t => {
    const started = performance.now()
    await leader.running.stop('SIGKILL')
    await until(async () => (await other.metric('postern_leader')) === 1)
    const seconds = (performance.now() - started) / 1000
    t.ok(seconds < 25, `${seconds.toFixed(1)} s`)
    const again = await issued(server, web, 'web', 1)
    t.match(again.chain, /^-----BEGIN CERTIFICATE-----/)
    using stream = await dial(other, again)
    stream.send(hello)
    t.match(await inbox(stream)(), { kind: 'state' }, 'the same CA')
  })

  await t.test('a replica that is told to stop gives up its lease, its streams and then itself', async t => {
    using stream = await dial(other)
    const next = inbox(stream)
    stream.send(hello)
    await next()
    const started = performance.now()
    // Not stop(), which loses its patience before the longest spread is over.
    process.kill(other.running.pid, 'SIGTERM')
    await t.rejects(next(), { code: 'PSTN_CONTROL_LOST' })
    await until(async () => other.running.ended() !== null)
    t.equal(other.running.ended(), 'ended with exit code 0')
    t.ok(performance.now() - started < 20_000)
    const lease = await kube.get<{ spec: { holderIdentity: string } }>(
      `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM_NAMESPACE}/leases/postern-injector`,
    )
    t.equal(lease.spec.holderIdentity, '')
  })

  await t.test('a configuration with an unknown key ends the process with the reason', async t => {
    const broken = await replica('injector-2', { trustDomian: 'x' })
    await until(async () => broken.running.ended() !== null)
    t.equal(broken.running.ended(), 'ended with exit code 1')
    t.match(await broken.log(), /PSTN_CONFIG_INVALID.*trustDomian: unknown key; did you mean trustDomain\?/)
  })
})

const OPEN = `apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: open}
spec:
  rules: [{to: [{operation: {ports: ["8080"]}}]}]
`
const CALL = { caller: { identity: idOf('shop', 'web'), address: '127.0.0.1' }, port: 8080 }

/** A pod that opted in, as the API server stored it, with an address on this machine. */
async function admitted(kube: Kube, name: string): Promise<V1Pod> {
  const create = (query = '') =>
    kube.create<V1Pod>(`/api/v1/namespaces/shop/pods${query}`, {
      metadata: { name, annotations: { 'postern.dev/inject': 'enabled' } },
      spec: { serviceAccountName: name, nodeName: 'node-1', containers: [{ name: 'app', image: 'none' }] },
    })
  // The caBundle takes a moment to be written, and to be read.
  await until(() =>
    create('?dryRun=All').then(
      pod => pod.spec?.initContainers !== undefined,
      () => false,
    ),
  )
  const pod = await create()
  const status = { podIPs: [{ ip: '127.0.0.1' }], podIP: '127.0.0.1', phase: 'Running' }
  const path = `/api/v1/namespaces/shop/pods/${name}/status`
  if (name === 'web') await kube.patch(path, 'application/merge-patch+json', { status })
  return pod
}

/** A certificate for the pod, through its own token. */
async function issued(server: ApiServer, { metadata = {} }: V1Pod, serviceAccount: string, slot = 0) {
  const { name = '', uid = '' } = metadata
  using asPod = connectKube(
    server.endpointFor(await server.tokenFor('shop', serviceAccount, { pod: { name, uid } })),
  )
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const csr = csrName(uid, slot)
  const path = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
  const usages = ['digital signature', 'server auth', 'client auth']
  const request = Buffer.from(createCsr(keys, idOf('shop', serviceAccount))).toString('base64')
  await asPod.create(path, {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name: csr },
    spec: { signerName: WORKLOAD_SIGNER, request, usages, expirationSeconds: 3600 },
  })
  let chain = ''
  await until(async () => {
    const { status } = await asPod.get<V1CertificateSigningRequest>(`${path}/${csr}`)
    const denied = status?.conditions?.find(({ type }) => type !== 'Approved')
    if (denied) throw new Error(denied.message)
    chain = Buffer.from(status?.certificate ?? '', 'base64').toString()
    return chain !== ''
  })
  return { chain, key: String(keys.privateKey.export({ format: 'pem', type: 'pkcs8' })) }
}

/** The messages that are no heartbeats. */
function inbox(stream: ControlStream): () => Promise<FromInjector> {
  const messages = stream.received()
  return async () => {
    for (;;) {
      const { value, done } = await messages.next()
      if (done) throw new Error('the stream has ended')
      if (value.kind === 'state' || value.entries.length > 0) return value
    }
  }
}
