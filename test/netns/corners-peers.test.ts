// Corners of a peer that changes under live connections: it rotates, falls silent, drains, is killed, or its application
// takes its time. A connection lives on or is reset; it never ends as if it were complete.
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { until } from '../kube/support/installation.ts'
import type { RunningPod } from '../support/namespace-kubelet.ts'
import { type Application, startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, isReady, openIn } from '../support/netns-mesh.ts'
import {
  CLOSE,
  isWhole,
  type Pair,
  PING,
  PONG,
  refusedBy,
  startPair,
  times,
  untilNothingIsOpen,
} from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

/** Renewed after 8 to 12 seconds; a pod has eight names for requests, which are freed after minutes. */
const LEAF_SECONDS = 24
const ROTATION_SECONDS = 20
const DEAD_AFTER_MS = 15_000
const ANSWER: Script = [...PONG, { do: 'receiveEnd' }, { do: 'end' }]
const TALK: Script = [...PING, ...CLOSE]
/** Open until the other side does something about it. */
const HELD: Script = [...PING, { do: 'receiveEnd' }, { do: 'end' }]

t.test('peers', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack, { leafSeconds: LEAF_SECONDS })
  const { mesh, server, client, serverApp, clientApp } = pair
  const host = server.ipv4
  const silent = await mesh.start('silent')
  const [silentApp, lateApp] = await Promise.all([
    startApplication(silent.namespace),
    startApplication(server.namespace),
  ])
  for (const app of [serverApp, silentApp]) await app.serve({ port: 7000, meet: true, script: ANSWER })
  const talks = async (to: string) =>
    isWhole(await clientApp.dial({ host: to, port: 7000, introduce: 1, script: TALK }))
  const openAtServer = (port: number, count: number) =>
    until(async () => (await serverApp.live({ port })).filter(({ sent }) => sent === 1).length === count)

  // What takes its time goes on side by side.
  const rotating = underRotation(pair, () => talks(host))
  const silence = fallsSilent(pair, silent, silentApp)
  const accepting = acceptsLate(pair, lateApp)

  await t.test('live connections outlast rotations of both certificates', async t => {
    const { rotations, transcripts } = await rotating
    t.ok(rotations >= 1, `the server has shown ${rotations} new certificates`)
    for (const transcript of transcripts) t.ok(isWhole(transcript), JSON.stringify(transcript))
  })

  await t.test(
    'an application that accepts late is waited for, and one that never does is a reset',
    async t => {
      const { late, never } = await accepting
      t.same(late.queued.counts, { done: 3 }, JSON.stringify(late.queued.others))
      t.same(late.beyond.counts, { done: 5 }, JSON.stringify(late.beyond.others))
      t.ok(late.beyond.ms > 1_500, `late: ${Math.round(late.beyond.ms)} ms`)
      t.same(never.beyond.counts, { 'ECONNRESET after step 1 of 4': 5 }, JSON.stringify(never.beyond.others))
      t.ok(never.beyond.ms < 21_500, `never: ${Math.round(never.beyond.ms)} ms`)
      t.ok((await refusedBy(server, 'inbound', 'PSTN_APP_UNREACHABLE')) >= 5)
    },
  )

  await t.test('a client that resets while the tunnel is being opened leaves nothing behind', async t => {
    // No tunnel leads to this address yet.
    const target = { host: server.ipv6, port: 7001 }
    await serverApp.serve({ port: 7001, meet: true, script: ANSWER })
    server.sidecar.kill('SIGSTOP')
    const staying = clientApp.dial({ ...target, introduce: 1, script: TALK })
    const script: Script = [{ do: 'send', bytes: 1 }, { do: 'wait', ms: 200 }, { do: 'reset' }]
    const leaving = await clientApp.dialMany({ ...target, count: 50, from: 2, script })
    server.sidecar.kill('SIGCONT')
    t.same(leaving.counts, { done: 50 })
    t.ok(isWhole(await staying), 'who stayed is served')
    await until(async () => (await openIn(server)) === 0)
    const saw = await serverApp.settled({ port: 7001 })
    t.equal(saw.filter(({ ended }) => ended).length, 1, 'no other was seen to end in order')
    t.comment(`${saw.length - 1} of them reached the application all the same`)
  })

  await t.test('a sidecar that drains loses no byte of live connections, and takes no new ones', async t => {
    const bytes = 512 * 1024
    const slowly = times(16, [
      { do: 'send', bytes },
      { do: 'wait', ms: 100 },
    ])
    const both: Script = [...slowly, { do: 'receive', bytes: 16 * bytes }, ...CLOSE]
    await serverApp.serve({ port: 7002, meet: true, script: both })
    await serverApp.serve({ port: 7003, meet: true, script: [...PONG, ...ANSWER] })
    const busy = clientApp.dialMany({ host, port: 7002, count: 4, script: both })
    const script: Script = [...PING, { do: 'gate', name: 'drained' }, ...PING, ...CLOSE]
    const idle = clientApp.dialMany({ host, port: 7003, count: 20, script })
    await openAtServer(7003, 20)

    // Opened all the while: before, at and after the signal.
    const racing = clientApp.dialMany({ host, port: 7000, count: 400, atOnce: 4, script: TALK })
    await delay(100)
    const exited = once(server.sidecar, 'exit')
    server.sidecar.kill('SIGTERM')
    const { counts, others } = await racing
    const { done = 0, ...refused } = counts
    t.ok(done > 0 && done < 400, `${done} came in before it`)
    const before = /^(ECONNRESET|EPIPE) after step [01] of 4$/
    t.same(
      Object.keys(refused).filter(outcome => !before.test(outcome)),
      [],
      'the others are reset before a byte came back',
    )
    t.ok(
      others.every(({ ms }) => ms < 1_000),
      'and at once',
    )
    await client.line(
      isConnection({ direction: 'outbound', outcome: 'refused', code: 'PSTN_PEER_UNREACHABLE' }),
    )

    t.same((await busy).counts, { done: 4 }, 'live ones go on')
    t.equal(server.sidecar.exitCode, null, 'and are waited for')
    await clientApp.open({ gate: 'drained' })
    t.same((await idle).counts, { done: 20 })
    t.same(await exited, [0, null])
    for (const [port, count] of [
      [7002, 4],
      [7003, 20],
    ] as const)
      t.equal((await serverApp.served({ port, count })).filter(isWhole).length, count)

    server.restart()
    await until(() => isReady(server))
    t.ok(await talks(host), 'the next connection works after the restart')
  })

  await t.test(
    'the sidecar of a server is killed: its clients are reset, and the next connection works',
    async t => {
      const held = clientApp.dialMany({ host, port: 7000, count: 10, script: HELD })
      await openAtServer(7000, 10)
      await kill(server)
      const { counts, others, ms } = await held
      t.same(counts, { 'ECONNRESET after step 2 of 4': 10 }, JSON.stringify(others))
      t.ok(ms < 3_000, `${Math.round(ms)} ms`)
      await serverApp.settled({ port: 7000 })
      server.restart()
      await until(() => isReady(server))
      t.ok(await talks(host))
    },
  )

  await t.test(
    'a peer that falls silent is noticed by either side, and reached again when it is back',
    async t => {
      const { cut, refused } = await silence
      for (const [what, { error, ended, ms }] of Object.entries(cut)) {
        t.same({ error, ended }, { error: 'ECONNRESET', ended: false }, `${what}: a reset`)
        t.ok(ms < DEAD_AFTER_MS + 500, `${what}: after ${Math.round(ms)} ms`)
      }
      t.match(refused, { error: 'ECONNRESET', received: 0 }, 'a new connection is refused')
      t.ok(refused.ms < 6_000, `after ${Math.round(refused.ms)} ms`)
      await until(() => talks(silent.ipv4))
      await untilNothingIsOpen(pair)
    },
  )

  await t.test(
    'the sidecar of a client is killed: its servers are reset, and the next connection works',
    async t => {
      await serverApp.settled({ port: 7000 })
      const held = clientApp.dialMany({ host, port: 7000, count: 10, script: HELD })
      await openAtServer(7000, 10)
      await kill(client)
      const saw = await serverApp.settled({ port: 7000 })
      t.equal(
        saw.filter(({ error, ended }) => error === 'ECONNRESET' && !ended).length,
        10,
        JSON.stringify(saw[0]),
      )
      await held
      client.restart()
      await until(() => isReady(client))
      t.ok(await talks(host))
    },
  )
})

async function kill({ sidecar }: RunningPod): Promise<void> {
  const exited = once(sidecar, 'exit')
  sidecar.kill('SIGKILL')
  await exited
}

/** Connections that talk all the time, and one that sends bulk each way, while certificates rotate. */
async function underRotation({ server, client, serverApp, clientApp }: Pair, talk: () => Promise<unknown>) {
  const bytes = 128 * 1024
  const rounds = ROTATION_SECONDS * 10
  const stream: Script = [
    ...times(rounds, [
      { do: 'send', bytes },
      { do: 'wait', ms: 100 },
    ]),
    { do: 'receive', bytes: rounds * bytes },
    ...CLOSE,
  ]
  const chat = (one: Script): Script => [...times(rounds, [...one, { do: 'wait', ms: 100 }]), ...CLOSE]
  await serverApp.serve({ port: 7100, script: stream })
  await serverApp.serve({ port: 7101, script: chat(PONG) })
  const live = [server.ipv4, server.ipv6].flatMap(host => [
    clientApp.dial({ host, port: 7100, script: stream }),
    ...Array.from({ length: 5 }, () => clientApp.dial({ host, port: 7101, script: chat(PING) })),
  ])
  // New connections say by which certificate.
  const serials = () => {
    const seen = client.lines.map(({ destination }) => Reflect.get(Object(destination), 'serial'))
    return new Set(seen.filter(Boolean)).size
  }
  await talk()
  const before = serials()
  for (let second = 0; second < ROTATION_SECONDS; second += 1) {
    await delay(900)
    await talk()
  }
  return { rotations: serials() - before, transcripts: await Promise.all(live) }
}

/** What both ends see of two connections when no packet passes any more, and then a third one. */
async function fallsSilent(
  { mesh, clientApp }: Pair,
  { namespace, ipv4: host }: RunningPod,
  app: Application,
) {
  const bytes = 64 * 1024
  const stream: Script = times(1_000, [
    { do: 'send', bytes },
    { do: 'wait', ms: 30 },
  ])
  await app.serve({ port: 7001, script: stream })
  const idle = clientApp.dial({ host, port: 7000, introduce: 1, script: HELD })
  const talking = clientApp.dial({ host, port: 7001, script: [{ do: 'receive', bytes: 1_000 * bytes }] })
  await until(async () => (await app.live({ port: 7001 })).some(({ sent }) => sent > bytes))
  await mesh.network.cut(namespace)
  const [idleSaw, talkingSaw] = await Promise.all([idle, talking])
  const refused = await clientApp.dial({ host, port: 7000, introduce: 2, script: TALK })
  const [idleServed, talkingServed] = await Promise.all(
    [7000, 7001].map(async port => (await app.served({ port, count: 1 }))[0]),
  )
  await mesh.network.mend(namespace)
  if (!idleServed || !talkingServed) throw new Error('one transcript each')
  return {
    cut: {
      'an idle client': idleSaw,
      'a client that receives': talkingSaw,
      'an idle server': idleServed,
      'a server that sends': talkingServed,
    },
    refused,
  }
}

/** An application that does not run for a while, with room for two connections that wait. */
async function acceptsLate({ server, clientApp }: Pair, app: Application) {
  const { ipv4: host, namespace } = server
  await app.serve({ port: 7200, meet: true, backlog: 1, script: ANSWER })
  const dialled = async (ms: number) => {
    app.process.kill('SIGSTOP')
    const dial = (count: number) => clientApp.dialMany({ host, port: 7200, count, script: TALK })
    const queued = dial(3)
    // Connections that come to a queue that is not full yet may all be answered.
    await until(async () => /^LISTEN +2 /.test(await namespace.check('ss', ['-Hltn', 'sport = :7200'])))
    const beyond = dial(5)
    await delay(ms)
    app.process.kill('SIGCONT')
    return { queued: await queued, beyond: await beyond }
  }
  const late = await dialled(2_000)
  // A sidecar waits for ten seconds, and asks once more where the tunnel was retired meanwhile.
  return { late, never: await dialled(21_500) }
}
