// A sidecar, or an injector, of v0.1.0 knows nothing of ports with TLS. Whatever is said of a port, nobody comes in there in
// plaintext while a cluster is upgraded or an upgrade is taken back, and whoever operates it reads why.
import { join } from 'node:path'
import type { CoreV1Event } from '@kubernetes/client-node'
import t from 'tap'
import { POLICY_LABEL } from '../../shared/names.ts'
import { until } from '../kube/support/installation.ts'
import { memoryVolume } from '../support/memory-volume.ts'
import type { RunningPod } from '../support/namespace-kubelet.ts'
import { type Application, startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, MESH_NAMESPACE, type Mesh, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole } from '../support/netns-pair.ts'
import { releasedSources } from '../support/released.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'
import { type CallerOptions, call, fromFiles } from '../support/tls-callers.ts'

const [MUTUAL, SERVER, OTHER] = [8443, 8444, 8445]
/** More than the head of a TLS record, so that whoever expects one need not wait for the rest. */
const BYTES = 64
const ASK: Script = [
  { do: 'send', bytes: BYTES },
  { do: 'receive', bytes: BYTES },
]
const ANSWER: Script = [
  { do: 'receive', bytes: BYTES },
  { do: 'send', bytes: BYTES },
  { do: 'receiveEnd' },
  { do: 'end' },
]
const TALK: Script = [...ASK, ...CLOSE]
const HELD: Script = [...ASK, { do: 'receiveReset' }]
const POLICIES = `/api/v1/namespaces/${MESH_NAMESPACE}/configmaps`

const tlsPorts = {
  metadata: { name: 'tls', labels: { [POLICY_LABEL]: 'true' } },
  data: {
    'tls.yaml': JSON.stringify({
      apiVersion: 'policy.postern.dev/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'tls' },
      spec: {
        selector: { matchLabels: { tls: 'ports' } },
        portLevelTls: { [MUTUAL]: { mode: 'MUTUAL' }, [SERVER]: { mode: 'SERVER' } },
      },
    }),
  },
}

const lacking = requireNetns() || requireApiServer() || requireCommands('git', 'tar')
const LABELS = { tls: 'ports' }

async function serve(pod: RunningPod): Promise<Application> {
  const application = await startApplication(pod.namespace)
  for (const port of [MUTUAL, SERVER, OTHER]) await application.serve({ port, script: ANSWER })
  return application
}

const talks = async ({ ipv4 }: RunningPod, port: number, tls?: CallerOptions['tls']) =>
  isWhole(await call({ host: ipv4, port }, { script: TALK, tls }).transcript)

const dials = async (from: Application, { ipv4 }: RunningPod, port: number) =>
  isWhole(await from.dial({ host: ipv4, port, script: TALK }))

async function outdated({ kube }: Mesh): Promise<readonly CoreV1Event[]> {
  const events = await kube.get<{ items: CoreV1Event[] }>(`/api/v1/namespaces/${MESH_NAMESPACE}/events`)
  return events.items.filter(({ reason }) => reason === 'SidecarOutdated')
}

/** A pod whose certificate the test has in files. */
async function known(t: Parameters<typeof startMesh>[0], mesh: Mesh) {
  const files = memoryVolume(t)
  await mesh.start('job', {
    annotations: { 'postern.dev/cert-files': 'app' },
    volumes: { 'postern-cert-files': files },
  })
  return fromFiles(files)
}

t.test('ports with TLS, of sidecars of v0.1.0 and of callers through them', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const main = join(releasedSources(t, '0.1.0'), 'proxy/main.ts')
  const mesh = await startMesh(t, stack)
  const [older, newer, tls] = await Promise.all([
    mesh.start('older', { main, labels: LABELS }),
    mesh.start('newer', { labels: LABELS }),
    known(t, mesh),
  ])
  const [olderApp, newerApp] = await Promise.all([serve(older), serve(newer)])
  const none = { ca: tls.ca }

  await t.test('control: before anything is said of them they take plaintext, and no TLS', async t => {
    for (const pod of [older, newer])
      for (const port of [MUTUAL, SERVER]) t.ok(await talks(pod, port), `${port}`)
    t.notOk(await talks(newer, MUTUAL, tls))
  })

  await t.test('plaintext that lives on them ends when they are declared, at either', async t => {
    const held = [older, newer].map(({ ipv4: host }) => call({ host, port: MUTUAL }, { script: HELD }))
    await until(async () => held.every(({ progress }) => progress().done === 2))
    await mesh.kube.create(POLICIES, tlsPorts)
    for (const { transcript } of held) t.ok((await transcript).reset)
  })

  await t.test('a newer one terminates them', async t => {
    await until(() => talks(newer, MUTUAL, tls))
    t.ok(await talks(newer, SERVER, none))
    for (const port of [MUTUAL, SERVER]) t.notOk(await talks(newer, port), `plaintext at ${port}`)
    t.notOk(await talks(newer, MUTUAL, none), 'without a certificate')
  })

  await t.test('an older one cannot, and lets nobody in there who comes without a tunnel', async t => {
    for (const port of [MUTUAL, SERVER])
      for (const [name, way] of Object.entries({ plaintext: undefined, TLS: tls, 'TLS of nobody': none }))
        t.notOk(await talks(older, port, way), `${name} at ${port}`)
    await older.line(isConnection({ outcome: 'refused', code: 'PSTN_PLAINTEXT_REFUSED' }))
    t.ok(await talks(older, OTHER), 'control: beside them plaintext passes')
    t.ok(await dials(newerApp, older, MUTUAL), 'and on them the tunnel')
  })

  await t.test('whoever operates it reads that on the pod, in the log and in a metric', async t => {
    await until(async () => (await outdated(mesh)).length > 0)
    t.match(await outdated(mesh), [
      { involvedObject: { kind: 'Pod', uid: older.pod.metadata?.uid }, message: /\(0\.1\.0\).* 8443, 8444 / },
    ])
    t.equal(await mesh.injector.metric('postern_sidecars_outdated'), 1)
    t.match(await mesh.injector.log(), /"sidecar is older than its ports with TLS"/)
  })

  await t.test('an older one calls such a port of a newer one through its tunnel', async t => {
    for (const port of [MUTUAL, SERVER]) t.ok(await dials(olderApp, newer, port), `${port}`)
    const line = await newer.line(isConnection({ direction: 'inbound', via: 'tunnel', outcome: 'ok' }))
    t.match(line, { source: { identity: /\/sa\/older$/ } })
  })
})

t.test('ports with TLS under an injector of v0.1.0', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const injectorMain = join(releasedSources(t, '0.1.0'), 'injector/main.ts')
  const mesh = await startMesh(t, stack)
  const [server, client, tls] = await Promise.all([
    mesh.start('server', { labels: LABELS }),
    mesh.start('client'),
    known(t, mesh),
  ])
  const [, clientApp] = await Promise.all([serve(server), startApplication(client.namespace)])
  await mesh.kube.create(POLICIES, tlsPorts)
  const states = () => server.lines.filter(({ msg }) => msg === 'state applied').length
  const upgradeTakenBack = async () => {
    await mesh.injector.running.stop('SIGKILL')
    const before = states()
    await mesh.restartInjector(injectorMain)
    await until(async () => states() > before)
  }
  const closed = async (test: typeof t) => {
    for (const port of [MUTUAL, SERVER]) test.notOk(await talks(server, port), `plaintext at ${port}`)
    test.notOk(await talks(server, MUTUAL, { ca: tls.ca }), 'without a certificate')
  }

  await t.test('control: under this one they take TLS, and no plaintext', async t => {
    await until(() => talks(server, MUTUAL, tls))
    await closed(t)
    t.ok(await dials(clientApp, server, OTHER))
  })

  await t.test('it cannot read the document, so that nobody comes in, and says so', async t => {
    await upgradeTakenBack()
    await until(async () => !(await dials(clientApp, server, OTHER)))
    await closed(t)
    t.notOk(await talks(server, MUTUAL, tls))
    t.match(await mesh.injector.log(), /portLevelTls/)
    await server.line(isConnection({ outcome: 'refused', code: 'PSTN_POLICY_UNSUPPORTED' }))
  })

  await t.test(
    'without the document the mesh is open again, but for the ports: they stay as they were',
    async t => {
      await mesh.kube.delete(`${POLICIES}/tls`)
      await until(() => dials(clientApp, server, OTHER))
      await closed(t)
      t.ok(await talks(server, MUTUAL, tls))
      t.ok(await talks(server, OTHER), 'control: beside them plaintext passes')
    },
  )

  await t.test('a newer injector, which speaks of such ports, lifts them', async () => {
    await mesh.injector.running.stop('SIGKILL')
    await mesh.restartInjector()
    await until(() => talks(server, MUTUAL))
  })
})
