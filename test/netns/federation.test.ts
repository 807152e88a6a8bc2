// Two meshes of different trust domains, each with an API server and an injector of its own, whose pods reach each other by
// address. Nothing is faked but the kubelet; the bundles are in the documents.
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { caRotate } from '../../cli/ca/rotate.ts'
import { run } from '../../cli/run.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { writeSpiffeBundle } from '../../shared/spiffe-bundle.ts'
import { systemPath, until } from '../kube/support/installation.ts'
import type { RunningPod } from '../support/namespace-kubelet.ts'
import { type Application, startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, isReady, type Mesh, POD_PREFIXES, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING } from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'
import {
  ANSWER,
  allow,
  EAST,
  idIn,
  introduce,
  PORT,
  phaseOf,
  refused,
  rootsOf,
  TALK,
  WEST,
} from '../support/two-meshes.ts'

const HELD: Script = [...PING, { do: 'receiveReset' }]

/** Of its roots of now: what an operator without a bundle endpoint writes. */
const written = (trustDomain: string, roots: readonly string[]) => ({
  jwks: writeSpiffeBundle({ trustDomain, roots }),
})

t.test('two meshes', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const east = await startMesh(t, stack, { settings: { trustDomain: EAST } })
  const west = await startMesh(t, stack, { beside: east, leafSeconds: 30, settings: { trustDomain: WEST } })
  const [web, cron, orders, other] = [
    await east.start('web'),
    await east.start('cron'),
    await west.start('orders'),
    await west.start('other'),
  ]
  const plain = await west.startPlain('plain')
  const pods = [web, cron, orders, other, plain]
  const [webApp, cronApp, ordersApp, otherApp, plainApp] = await Promise.all(
    pods.map(({ namespace }) => startApplication(namespace)),
  )
  if (!webApp || !cronApp || !ordersApp || !otherApp || !plainApp) throw new Error('five applications')
  for (const app of [webApp, cronApp, ordersApp, otherApp, plainApp])
    await app.serve({ port: PORT, meet: true, script: ANSWER })

  let introduced = 0
  const dial = (from: Application, host: string, script = TALK) => {
    introduced += 1
    return from.dial({ host, port: PORT, introduce: introduced, script, timeoutMs: 60_000 })
  }
  const talks = async (from: Application, { ipv4 }: { ipv4: string }) => isWhole(await dial(from, ipv4))

  const westPrefixes = [...POD_PREFIXES[1]]
  const inWest = westPrefixes.map(cidr => ({ cidr, identities: [`spiffe://${idIn(WEST, 'orders')}`] }))
  const inEast = POD_PREFIXES[0].map(cidr => ({ cidr, identities: [`spiffe://${EAST}/ns/shop/*`] }))

  await t.test('control: before they know each other their pods talk in plaintext', async t => {
    t.ok(await talks(webApp, orders))
    t.ok(await talks(webApp, plain))
    await web.line(isConnection({ direction: 'outbound', via: 'plaintext', outcome: 'ok' }))
    await orders.line(isConnection({ direction: 'inbound', via: 'plaintext', outcome: 'ok' }))
  })

  await introduce(east, WEST, written(WEST, await rootsOf(west)), inWest)
  await introduce(west, EAST, written(EAST, await rootsOf(east)), inEast)

  await t.test('a partner’s workload is known, and refused without a rule for it', async t => {
    await until(
      async () =>
        !(await talks(webApp, orders)) && orders.lines.some(refused('inbound', 'PSTN_POLICY_DENIED')),
    )
    const line = await orders.line(refused('inbound', 'PSTN_POLICY_DENIED'))
    t.match(line, { source: { identity: `spiffe://${idIn(EAST, 'web')}` }, reason: /other trust domains/ })
    t.ok(await talks(otherApp, orders), 'control: the default lets our own in')
  })

  await allow(west, 'orders', idIn(EAST, 'web'), idIn(WEST, 'other'))
  await allow(east, 'web', `${WEST}/*`)

  await t.test('with a rule it talks, in both directions and over both families', async t => {
    await until(() => talks(webApp, orders))
    t.ok(isWhole(await dial(webApp, orders.ipv6)), 'IPv6')
    await until(() => talks(ordersApp, web))
    t.match(await web.line(isConnection({ direction: 'outbound', via: 'tunnel', outcome: 'ok' })), {
      destination: { trustDomain: WEST, identity: `spiffe://${idIn(WEST, 'orders')}` },
    })
    t.match(await orders.line(isConnection({ direction: 'inbound', via: 'tunnel', outcome: 'ok' })), {
      source: { identity: /^spiffe:/ },
    })
    t.match(await web.line(isConnection({ direction: 'inbound', via: 'tunnel', outcome: 'ok' })), {
      source: { identity: `spiffe://${idIn(WEST, 'orders')}` },
    })
  })

  await t.test('another workload of the same partner is refused', async t => {
    t.notOk(await talks(cronApp, orders))
    t.match(await cron.line(refused('outbound', 'PSTN_POLICY_DENIED')), { reason: /refused/ })
  })

  await t.test(
    'whoever is not expected at a partner’s address is not spoken to, by no means in plaintext',
    async t => {
      t.notOk(await talks(webApp, other), 'another identity')
      await web.line(refused('outbound', 'PSTN_PEER_UNEXPECTED'))
      const before = await plainApp.outcomes({ port: PORT })
      t.notOk(await talks(webApp, plain), 'no sidecar')
      await web.line(refused('outbound', 'PSTN_PEER_UNREACHABLE'))
      t.same(await plainApp.outcomes({ port: PORT }), before, 'its application saw nothing')
    },
  )

  await t.test('the root of one is rotated under traffic: no connection fails', async t => {
    await rotatesUnderTraffic(t, { east, west, inWest, orders, dial: () => dial(webApp, orders.ipv4) })
  })

  await t.test('a sidecar that restarts without an injector still knows its partners', async t => {
    await east.injector.running.stop('SIGKILL')
    const exited = once(web.sidecar, 'exit')
    web.sidecar.kill('SIGKILL')
    await exited
    web.restart()
    await until(() => isReady(web))
    t.ok(await talks(webApp, orders))
    t.ok(await talks(ordersApp, web))
  })

  await t.test('a partner that is removed loses its live connections, and nobody else does', async t => {
    const foreign = dial(webApp, orders.ipv4, HELD)
    const own = dial(otherApp, orders.ipv4, [...PING, { do: 'gate', name: 'removed' }, ...PING, ...CLOSE])
    await until(
      async () => (await ordersApp.live({ port: PORT })).filter(({ sent }) => sent === 1).length === 2,
    )
    const started = performance.now()
    await west.kube.delete(systemPath('configmaps/partner'))
    t.ok((await foreign).reset)
    t.comment(`${Math.round(performance.now() - started)} ms after it was asked for`)
    await otherApp.open({ gate: 'removed' })
    t.ok(isWhole(await own), 'control: our own goes on')
    t.notOk(await talks(webApp, orders))
    t.match(await web.line(refused('outbound', 'PSTN_PEER_TRUST_DOMAIN')), { reason: /refused us/ })
    await orders.line(refused('inbound', 'PSTN_PEER_TRUST_DOMAIN'))
  })
})

type Rotation = {
  readonly east: Mesh
  readonly west: Mesh
  readonly inWest: object[]
  readonly orders: RunningPod
  dial(): ReturnType<Application['dial']>
}

async function rotatesUnderTraffic(t: Test, { east, west, inWest, orders, dial }: Rotation): Promise<void> {
  const [old = ''] = await rootsOf(west)
  const failed: unknown[] = []
  let count = 0
  let over = false
  const traffic = (async () => {
    while (!over) {
      const transcript = await dial()
      count += 1
      if (!isWhole(transcript)) failed.push(transcript)
    }
  })()
  const typed = await run(['ca', 'rotate'], {
    commands: [caRotate],
    sink: { out: () => {}, err: text => t.comment(text.trim()) },
    signal: AbortSignal.timeout(60_000),
    version: 'test',
    connect: async () => connectKube(west.server.endpoint),
  })
  t.equal(typed, 0)
  // What an operator without a bundle endpoint does while the next root is published.
  let known = [old]
  const issued = () => orders.lines.filter(({ msg }) => msg === 'certificate issued').length
  let atSwitch = Number.POSITIVE_INFINITY
  const deadline = performance.now() + 200_000
  while (issued() < atSwitch + 2 && performance.now() < deadline) {
    const now = await rootsOf(west)
    if (now.join() !== known.join()) await introduce(east, WEST, written(WEST, now), inWest)
    known = now
    if (atSwitch > issued() && (await phaseOf(west)) === 'switched') atSwitch = issued()
    await delay(500)
  }
  t.ok(issued() >= atSwitch + 2, 'certificates by the next root are in use')
  over = true
  await traffic
  t.same(failed, [], `of ${count} connections`)
  t.comment(`${count} connections`)
}
