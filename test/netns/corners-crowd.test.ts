// Many connections between one pair of sidecars: opened at once, idle, reset in a storm, each with a life of its own;
// and too many, of which those beyond a limit are refused and counted while everybody else is served.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { PORTS } from '../../shared/ports.ts'
import { until } from '../kube/support/installation.ts'
import type { RunningPod } from '../support/namespace-kubelet.ts'
import { ip } from '../support/netns.ts'
import type { Script } from '../support/netns-conversation.ts'
import { openIn } from '../support/netns-mesh.ts'
import {
  CLOSE,
  isWhole,
  memoryOfBoth,
  PING,
  PONG,
  refusedBy,
  SIDECARS,
  startPair,
  untilNothingIsOpen,
} from '../support/netns-pair.ts'
import { inMiB } from '../support/process-memory.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const CONVERSATIONS = 200
const IDLE = 2_000
const IDLE_MEMORY_KIB = 64
const BURST = 2_000
const RESETS = 10_000
// docs/operations.md, "Limits".
const HANDSHAKES = 256
const HANDSHAKES_PER_ADDRESS = 64
const STATUS_PER_ADDRESS = 32

/** A byte each way, then nothing until the gate opens, then another byte each way. */
const heldAt = (gate: string): Script => [...PING, { do: 'gate', name: gate }, ...PING, ...CLOSE]
const ANSWER_TWICE: Script = [...PONG, ...PONG, { do: 'receiveEnd' }, { do: 'end' }]

t.test('many connections', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack)
  const { server, plain, serverApp, clientApp, plainApp } = pair
  const host = server.ipv4
  await serverApp.serve({ port: 7000, meet: true, script: ANSWER_TWICE })

  for (const address of [server.ipv4, server.ipv6]) {
    await t.test(`500 connections are opened at once before there is a tunnel to ${address}`, async t => {
      const script: Script = [...PING, ...PING, ...CLOSE]
      const { counts, others, ms } = await clientApp.dialMany({
        host: address,
        port: 7000,
        script,
        count: 500,
      })
      t.same(counts, { done: 500 }, JSON.stringify(others))
      t.equal((await serverApp.served({ port: 7000, count: 500 })).filter(isWhole).length, 500)
      t.comment(`${Math.round(ms)} ms`)
    })
  }

  await t.test(`${CONVERSATIONS} random conversations agree byte by byte, and in how they end`, async t => {
    const [port, count] = [7001, CONVERSATIONS]
    const random = Number(process.env.POSTERN_SEED ?? Math.floor(Math.random() * 2 ** 31))
    t.comment(`POSTERN_SEED=${random}`)
    await serverApp.serve({ port, meet: true, script: { random } })
    const { counts, others, ms } = await clientApp.dialMany({ host, port, script: { random }, count })
    t.same(counts, { done: count }, JSON.stringify(others))
    const served = await serverApp.served({ port, count })
    const broken = served.filter(transcript => !isWhole(transcript))
    t.equal(broken.length, 0, JSON.stringify(broken.slice(0, 5)))
    t.equal(new Set(served.map(({ id }) => id)).size, count)
    const bytes = served.reduce((sum, { sent, received }) => sum + sent + received, 0)
    t.comment(`${inMiB(bytes)} in ${Math.round(ms)} ms`)
    await untilNothingIsOpen(pair)
  })

  await t.test(`${BURST} connections that come while the sidecar does not look wait for it`, async t => {
    const { pid = 0 } = pair.client.sidecar
    const script: Script = [...PING, ...PING, ...CLOSE]
    process.kill(pid, 'SIGSTOP')
    const dialled = clientApp.dialMany({ host, port: 7000, script, count: BURST })
    await delay(500)
    process.kill(pid, 'SIGCONT')
    const { counts, others } = await dialled
    t.same(counts, { done: BURST }, JSON.stringify(others))
    t.equal((await serverApp.served({ port: 7000, count: BURST })).filter(isWhole).length, BURST)
    t.equal(await listenOverflows(pair.client), 0)
  })

  await t.test(`${IDLE} idle connections cost little, and each still works`, async t => {
    const before = await memoryOfBoth(pair)
    const idle = clientApp.dialMany({ host, port: 7000, count: IDLE, script: heldAt('idle') })
    const last = { live: 0, talked: 0 }
    const allTalked = async () => {
      const live = await serverApp.live({ port: 7000 })
      last.live = live.length
      last.talked = live.filter(({ sent }) => sent === 1).length
      return last.talked === IDLE
    }
    await until(allTalked).catch(async thrown => {
      // Those that live on end with the rest: what became of each of them is what the reader needs.
      await clientApp.open({ gate: 'idle' })
      const { counts, others } = await idle
      throw new Error(JSON.stringify({ ...last, counts, others }), { cause: thrown })
    })
    await delay(500)
    const held = await memoryOfBoth(pair)
    for (const end of SIDECARS) {
      const each = (held[end] - before[end]) / IDLE / 1024
      t.ok(
        each < IDLE_MEMORY_KIB,
        `${each.toFixed(1)} KiB each in the ${end}’s sidecar of ${inMiB(held[end])}`,
      )
    }
    const tunnels = await connectionsTo(server, PORTS.tunnel)
    t.ok(tunnels >= IDLE / 1024 && tunnels <= 32, `${tunnels} tunnels carry them`)
    await clientApp.open({ gate: 'idle' })
    t.same((await idle).counts, { done: IDLE })
    t.equal((await serverApp.served({ port: 7000, count: IDLE })).filter(isWhole).length, IDLE)
    await untilNothingIsOpen(pair)
  })

  await t.test(`a tunnel survives ${RESETS} connections that their clients reset`, async t => {
    const port = 7002
    await serverApp.serve({ port, meet: true, script: [{ do: 'receiveReset' }] })
    const witness = clientApp.dial({ host, port: 7000, introduce: 1, script: heldAt('storm') })
    await until(async () => (await serverApp.live({ port: 7000 })).some(({ sent }) => sent === 1))
    const script: Script = [{ do: 'send', bytes: 1 }, { do: 'reset' }]
    const storm = await clientApp.dialMany({ host, port, script, count: RESETS, atOnce: 100 })
    t.same(storm.counts, { done: RESETS }, JSON.stringify(storm.others))
    t.comment(`${Math.round(RESETS / (storm.ms / 1000))} a second`)
    await until(async () => (await openIn(server)) === 1)
    const saw = await serverApp.settled({ port })
    const ended = saw.filter(({ reset, steps }) => steps > 0 && !reset)
    t.equal(ended.length, 0, JSON.stringify(ended.slice(0, 5)))
    t.comment(`${saw.length} of them reached the server’s application`)
    await clientApp.open({ gate: 'storm' })
    t.ok(isWhole(await witness), 'a connection that was open before has lived through it')
    const next = await clientApp.dialMany({
      host,
      port: 7000,
      script: [...PING, ...PING, ...CLOSE],
      count: 100,
    })
    t.same(next.counts, { done: 100 }, 'and new ones are opened')
    await untilNothingIsOpen(pair)
  })

  await t.test('handshakes that are not done have a limit, for each address and in sum', async t => {
    const refused = () => refusedBy(server, 'inbound', 'PSTN_LIMIT')
    const silent: Script = [{ do: 'receiveEnd' }, { do: 'end' }]
    const knock = (count: number, localAddress: string) =>
      plainApp.dialMany({ host, port: PORTS.tunnel, count, localAddress, anonymous: true, script: silent })
    const others = [101, 102, 103, 104, 105].map(last => `10.77.0.${last}`)
    await ip(
      plain.namespace,
      others.map(address => `addr add ${address}/24 dev eth0`),
    )

    const started = performance.now()
    const one = knock(HANDSHAKES_PER_ADDRESS + 6, plain.ipv4)
    await until(async () => (await refused()) === 6)
    t.pass(`${HANDSHAKES_PER_ADDRESS} of one address wait`)
    const rest = others.map(address => knock(60, address))
    const sum = HANDSHAKES_PER_ADDRESS + 60 * others.length
    await until(async () => (await refused()) === 6 + sum - HANDSHAKES)
    t.pass(`${HANDSHAKES} in sum`)
    const { counts } = await clientApp.dialMany({
      host,
      port: 7000,
      script: [...PING, ...PING, ...CLOSE],
      count: 10,
    })
    t.same(counts, { done: 10 }, 'who has a tunnel is served meanwhile')
    await Promise.all([one, ...rest])
    const seconds = (performance.now() - started) / 1000
    t.ok(seconds > 4 && seconds < 9, `those are given up after ${seconds.toFixed(1)} s`)
    t.equal(await refusedBy(server, 'inbound', 'PSTN_TLS_FAILED'), HANDSHAKES, 'and counted')
  })

  await t.test('connections to the status port have a limit for each address', async t => {
    const script: Script = [{ do: 'receiveEnd' }, { do: 'end' }]
    const count = STATUS_PER_ADDRESS + 8
    const silent = { host, port: PORTS.status, count, anonymous: true, timeoutMs: 500, script }
    const { counts } = await plainApp.dialMany(silent)
    t.same(counts, { done: 8, 'timeout after step 0 of 2': STATUS_PER_ADDRESS }, 'as many stay open')
  })
})

async function connectionsTo({ namespace }: RunningPod, port: number): Promise<number> {
  const listed = await namespace.check('ss', ['-Htn', 'state', 'established', `sport = :${port}`])
  return listed.split('\n').filter(Boolean).length
}

/** How many connections the pod's kernel has dropped because too many waited to be accepted. */
async function listenOverflows({ namespace }: RunningPod): Promise<number> {
  const lines = (await namespace.check('cat', ['/proc/net/netstat'])).split('\n')
  const [names = [], values = []] = lines
    .filter(line => line.startsWith('TcpExt:'))
    .map(line => line.split(' '))
  return Number(values[names.indexOf('ListenOverflows')])
}
