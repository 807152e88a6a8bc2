// Attacks of docs/security.md from within a pod, and with what was stolen from one: real sidecars, rules and certificates,
// an injector on a real API server, pods as network namespaces. What is not stopped is shown to work.
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { certsRevoke } from '../../cli/certs/revoke.ts'
import { run } from '../../cli/run.ts'
import { dialInjector } from '../../shared/control/dial.ts'
import { CONTROL_PATH } from '../../shared/control/messages.ts'
import { connectKube, type Kube } from '../../shared/kube/rest.ts'
import { INJECTOR_NAME, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { INJECTOR_PORTS, PORTS, PROXY_UID } from '../../shared/ports.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { clientTlsOptions, type KeyedChain } from '../../shared/tls/contexts.ts'
import { createNamespace, systemPath, until } from '../kube/support/installation.ts'
import type { LogLine, RunningPod } from '../support/namespace-kubelet.ts'
import { startAgent } from '../support/netns-client.ts'
import { isConnection, MESH_NAMESPACE, startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'
import { withRequest } from '../unit/injector/webhook/reviews.ts'

const APP_UID = 1000
const APP_PORT = 8080
const trustDomain = 'cluster.local'
const clientId = workloadSpiffeId({ trustDomain, namespace: MESH_NAMESPACE, serviceAccount: 'client' })
const injectorId = workloadSpiffeId({
  trustDomain,
  namespace: SYSTEM_NAMESPACE,
  serviceAccount: INJECTOR_NAME,
})
const sourceOf = (line: LogLine, field: string) => Reflect.get(Object(line.source), field)

t.test('an attacker in a pod', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const { server, kube, network, start } = mesh
  const merge = 'application/merge-patch+json'
  await kube.patch(`/api/v1/namespaces/${MESH_NAMESPACE}`, merge, {
    metadata: { labels: { 'postern.dev/mode': 'strict' } },
  })
  const [serverPod, clientPod] = await Promise.all([start('server'), start('client')])
  const [serverApp, clientApp, asSidecar] = await Promise.all([
    startAgent(serverPod.namespace, { uid: APP_UID }),
    startAgent(clientPod.namespace, { uid: APP_UID }),
    startAgent(clientPod.namespace, { uid: PROXY_UID }),
  ])
  await serverApp.serve({ by: 'server', host: '::', port: APP_PORT })
  const target = { host: serverPod.ipv4, port: APP_PORT }
  await until(async () => (await asSidecar.dial(target)) === 'ECONNRESET')

  await t.test('whoever runs as the sidecar’s user goes out uncaptured, and strict refuses him', async t => {
    t.match(await clientApp.dial(target), { by: 'server' }, 'control: the application is captured')
    t.equal(await asSidecar.dial(target), 'ECONNRESET')
    const refused = isConnection({ outcome: 'refused', code: 'PSTN_PLAINTEXT_REFUSED' })
    const line = await serverPod.line(each => refused(each) && sourceOf(each, 'address') === clientPod.ipv4)
    t.equal(sourceOf(line, 'identity'), undefined)
  })

  await t.test('no neighbour can end a sidecar, nor ask what it was not told the path of', async t => {
    const status = `http://${serverPod.ipv4}:${PORTS.status}`
    const headers = { 'postern-quit': 'yes' }
    t.equal((await fetch(`${status}/quit`, { method: 'POST', headers })).status, 404)
    t.equal((await fetch(`${status}/app-health/guess/app/readyz`)).status, 404)
    t.equal((await fetch(`${status}/healthz`)).status, 200, 'control')
  })

  await t.test('inside a pod nobody is asked: whoever dials there is the pod', async t => {
    t.match(await serverApp.dial(target), { by: 'server' }, 'its own address')
    t.match(await serverApp.dial({ host: '127.0.0.1', port: APP_PORT }), { by: 'server' }, 'loopback')
    t.equal(await asSidecar.dial(target), 'ECONNRESET', 'control: from elsewhere it is refused')
  })

  const thief = await stealFrom(clientPod, kube)

  await t.test('a stolen certificate opens no control stream from another address', async t => {
    t.match(
      await clientPod.line(({ msg }) => msg === 'control connected'),
      {},
      'control: the pod itself has one',
    )
    const address = `${network.node.ipv4}:${INJECTOR_PORTS.control}`
    const { socket } = await dialInjector(
      { ...thief, address, identity: injectorId, now: Date.now() },
      AbortSignal.timeout(5_000),
    )
    const { status, code, body } = await hello(socket, clientPod.pod.metadata?.uid ?? '')
    t.match({ status, code }, { status: 403, code: 'PSTN_CONTROL_REJECTED' })
    t.match(body, /is no address of pod shop\/client/)
  })

  await t.test('a stolen certificate is its pod at every tunnel, until it is revoked', async t => {
    t.equal(await connectTunnel(thief, serverPod), 200)
    const tunnelled = isConnection({ direction: 'inbound', via: 'tunnel' })
    const line = await serverPod.line(
      each => tunnelled(each) && sourceOf(each, 'address') === network.node.ipv4,
    )
    t.equal(sourceOf(line, 'identity'), clientId, 'the address of the log line is not that of the identity')
    const serial = String(sourceOf(line, 'serial'))
    const connect = async () => connectKube(server.endpoint)
    const sink = { out: () => undefined, err: () => undefined }
    const { signal } = new AbortController()
    const words = ['certs', 'revoke', serial]
    t.equal(await run(words, { commands: [certsRevoke], sink, signal, version: 'test', connect }), 0)
    await until(async () => (await connectTunnel(thief, serverPod)) === 'PSTN_PEER_REVOKED')
    await until(async () => typeof (await clientApp.dial(target)) !== 'string')
    t.match(await clientApp.dial(target), { by: 'server' }, 'control: the pod has another, and goes on')
  })

  await t.test('whoever takes the rules away goes out in plaintext, and strict refuses him', async t => {
    t.match(await clientApp.dial(target), { by: 'server' }, 'control')
    await clientPod.namespace.check('nft', ['delete', 'table', 'inet', 'postern'])
    t.equal(await clientApp.dial(target), 'ECONNRESET')
  })

  await t.test('a forged review makes no binding for a namespace that does not exist', async t => {
    const bindings = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings'
    const bound = async (namespace: string) =>
      kube.get(`${bindings}/postern-workload:${namespace}`).then(
        () => true,
        () => false,
      )
    await createNamespace(kube, 'quiet')
    const forge = (namespace: string) => forgeReview(mesh.injector.ports.webhook, namespace)
    t.match(await forge('nowhere'), /there is no namespace nowhere/)
    t.match(await forge('../quiet'), /no name of a namespace/)
    t.notOk(await bound('nowhere'))
    t.match(await forge('quiet'), /"allowed":true/)
    t.ok(
      await bound('quiet'),
      'not stopped: whose service accounts may ask for their own certificates, for ten minutes',
    )
  })
})

type Loot = {
  readonly credential: KeyedChain
  readonly bundle: { trustDomain: string; roots: readonly string[] }
}

/** What whoever may run commands in the sidecar's container finds there. */
async function stealFrom({ stateDir }: RunningPod, kube: Kube): Promise<Loot> {
  const { key, chain } = JSON.parse(await readFile(join(stateDir, 'credential.json'), 'utf8'))
  const trust = await kube.get<{ data: Record<string, string> }>(systemPath(`configmaps/${TRUST_CONFIGMAP}`))
  const credential = { key, chain: [chain].flat().join('\n') }
  return { credential, bundle: { trustDomain, roots: [trust.data['roots.pem'] ?? ''] } }
}

/** From the node's address. The status of a CONNECT to the application, or the code of the GOAWAY. */
async function connectTunnel({ credential, bundle }: Loot, pod: RunningPod): Promise<number | string> {
  const socket = connectTls({ ...clientTlsOptions(credential, bundle), host: pod.ipv4, port: PORTS.tunnel })
  const session = connectHttp2(`https://${pod.ipv4}`, { createConnection: (): Socket => socket })
  const { promise, resolve } = Promise.withResolvers<number | string>()
  session.on('error', () => undefined)
  session.on('goaway', (_code, _last, reason?: Buffer) => resolve(String(reason)))
  session.on('close', () => resolve('closed'))
  const stream = session.request({ ':method': 'CONNECT', ':authority': `${pod.ipv4}:${APP_PORT}` })
  stream.on('error', () => undefined)
  stream.on('response', headers => resolve(Number(headers[':status'])))
  const outcome = await promise
  session.destroy()
  return outcome
}

async function hello(socket: Socket, podUid: string) {
  const session = connectHttp2('https://injector', { createConnection: (): Socket => socket })
  const stream = session.request({ ':method': 'POST', ':path': CONTROL_PATH })
  stream.write(`${JSON.stringify({ kind: 'hello', podUid, version: '0.1.0', features: [] })}\n`)
  const [headers] = await once(stream, 'response')
  const body = await text(stream)
  session.destroy()
  return { status: headers[':status'], code: headers['postern-code'], body }
}

/** As any pod may, without a certificate; it need not even believe the webhook's. */
async function forgeReview(port: number, namespace: string): Promise<string> {
  const outgoing = httpsRequest({
    host: '127.0.0.1',
    port,
    path: '/inject/pod',
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    rejectUnauthorized: false,
    agent: false,
  })
  outgoing.end(withRequest({ namespace }))
  const [response] = await once(outgoing, 'response')
  return text(response)
}
