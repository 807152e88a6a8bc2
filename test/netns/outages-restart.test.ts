// A sidecar's container that is restarted while API server and injector are away has its memory volume and nothing else:
// what is whole there serves, what is damaged, expired or another pod's costs what it must and nothing more.
import { once } from 'node:events'
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { PORTS } from '../../shared/ports.ts'
import { until } from '../kube/support/installation.ts'
import type { RunningPod } from '../support/namespace-kubelet.ts'
import { type Agent, startAgent } from '../support/netns-client.ts'
import { isReady, type Mesh, startMesh } from '../support/netns-mesh.ts'
import { codesBetween, untilAllExpired } from '../support/outage.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const skip = requireNetns() || requireApiServer()
const PORT = 8080
const SHORT_LEAF_SECONDS = 10

async function pair(mesh: Mesh) {
  const [client, server] = await Promise.all([mesh.start('client'), mesh.start('server')])
  const [clientApp, serverApp] = await Promise.all([
    startAgent(client.namespace, { uid: 1000 }),
    startAgent(server.namespace, { uid: 1000 }),
  ])
  await serverApp.serve({ by: 'server', host: '::', port: PORT })
  const call = () => passes(clientApp, server)
  await until(call)
  // Addresses are kept a second after they were learnt.
  await until(async () => (await readdir(client.stateDir)).includes('addresses.json'))
  return { client, server, call }
}

const passes = async (from: Agent, { ipv4 }: RunningPod): Promise<boolean> =>
  typeof (await from.dial({ host: ipv4, port: PORT })) !== 'string'

async function outage({ injector, server }: Mesh): Promise<void> {
  await injector.running.stop('SIGKILL')
  await server.stop()
}

/** Kills the sidecar's process, changes its volume, and starts another that listens. */
async function restart(pod: RunningPod, change: () => Promise<unknown> = async () => {}): Promise<number> {
  const exited = once(pod.sidecar, 'exit')
  pod.sidecar.kill('SIGKILL')
  await exited
  await change()
  const before = pod.lines.filter(({ msg }) => msg === 'listening').length
  const at = Date.now()
  pod.restart()
  await until(async () => pod.lines.filter(({ msg }) => msg === 'listening').length > before)
  return at
}

/** With which connections were refused; the log comes a moment after the reset. */
async function codesSince(pod: RunningPod, at: number): Promise<unknown[]> {
  await until(async () => codesBetween(pod, at, Date.now()).size > 0)
  return [...codesBetween(pod, at, Date.now())]
}

const whyNotReady = async ({ ipv4 }: RunningPod): Promise<string> =>
  (await fetch(`http://${ipv4}:${PORTS.status}/readyz`)).text()

t.test('a restart during an outage', { skip }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const { client, server, call } = await pair(mesh)
  await outage(mesh)
  const files = await readdir(client.stateDir)
  const whole = new Map(
    await Promise.all(
      files
        .filter(name => name.endsWith('.json'))
        .map(async name => [name, await readFile(join(client.stateDir, name))] as const),
    ),
  )
  const write = (name: string, bytes: Buffer | string) => writeFile(join(client.stateDir, name), bytes)
  const mend = () => Promise.all([...whole].map(([name, bytes]) => write(name, bytes)))

  await t.test('with its volume whole it serves at once', async t => {
    const at = await restart(client)
    await until(() => isReady(client))
    t.ok(await call())
    t.comment(`an answer ${Date.now() - at} ms after the start of the process`)
    await restart(server)
    await until(() => isReady(server))
    t.ok(await call(), 'the called one too')
  })

  for (const [name, how, bytes] of [
    ['credential.json', 'cut short', whole.get('credential.json')?.subarray(0, 40) ?? ''],
    ['trust.json', 'of other bytes', '\u0000\u0001 not JSON'],
    ['state.json', 'of another shape', '{"kind":"state","version":"x"}'],
  ] as const)
    await t.test(`with ${name} ${how} it is not ready, says why, and passes nothing`, async t => {
      const at = await restart(client, () => write(name, bytes))
      t.notOk(await isReady(client))
      t.match(await whyNotReady(client), /no (certificate|trust bundle|policy) yet/)
      t.notOk(await call())
      t.same(await codesSince(client, at), ['PSTN_NOT_READY'])
      t.equal(client.sidecar.exitCode, null, 'it goes on')
      await restart(client, mend)
      await until(() => isReady(client))
      t.ok(await call(), 'with what it had it serves again')
    })

  await t.test('damaged files that it can do without cost nothing but what they were', async t => {
    await restart(client, () => write('pending.json', '{"key":"x","request":"y","slot":9}'))
    await until(() => isReady(client))
    t.ok(await call())
  })

  await t.test('another pod’s certificate is not used', async t => {
    const theirs = join(server.stateDir, 'credential.json')
    const at = await restart(client, () => copyFile(theirs, join(client.stateDir, 'credential.json')))
    t.match(await whyNotReady(client), /no certificate yet/)
    t.notOk(await call())
    t.same(await codesSince(client, at), ['PSTN_NOT_READY'])
    await restart(client, mend)
    await until(() => isReady(client))
    t.ok(await call())
  })
})

t.test('a restart after expiry, during an outage', { skip }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack, { leafSeconds: SHORT_LEAF_SECONDS })
  const { client, server, call } = await pair(mesh)
  await outage(mesh)
  await untilAllExpired([client, server], 500)
  const at = await restart(client)
  t.match(await whyNotReady(client), /no certificate yet/, 'what has expired is not restored')
  t.notOk(await call())
  t.same(await codesSince(client, at), ['PSTN_NOT_READY'])
  await mesh.server.start()
  const back = Date.now()
  await mesh.restartInjector()
  await until(call)
  await until(() => isReady(client))
  t.comment(`heals ${Date.now() - back} ms after the API server was back`)
})
