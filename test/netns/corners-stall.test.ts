// End-to-end back-pressure: a reader that stalls stops its writer and nobody else, and costs a bounded piece of memory,
// measured as what each sidecar's process alone holds.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { until } from '../kube/support/installation.ts'
import type { Application } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import {
  CLOSE,
  isWhole,
  memoryOfBoth,
  type Pair,
  PING,
  PONG,
  SIDECARS,
  startPair,
  times,
  untilNothingIsOpen,
} from '../support/netns-pair.ts'
import { inMiB } from '../support/process-memory.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const MIB = 1024 * 1024
const STALLED_BYTES = 64 * MIB
/** Its window in the tunnel, and what the two processes buffer and allocate on the way to it. */
const STALLED_MEMORY = 16 * MIB
const STALLED = 40
/** Of each of many: the window, and little else. */
const STALLED_MEMORY_EACH = 3 * MIB
const NEIGHBOUR_BYTES = 32 * MIB
const PINGS = 200

const writes = (bytes: number): Script => [{ do: 'send', bytes }, ...CLOSE]
const readsLate = (gate: string, bytes: number): Script => [
  { do: 'stall' },
  { do: 'gate', name: gate },
  { do: 'resume' },
  { do: 'receive', bytes },
  { do: 'receiveEnd' },
  { do: 'end' },
]

t.test('back-pressure', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack)
  const { server, serverApp, clientApp } = pair
  const host = server.ipv4
  await serverApp.serve({ port: 7000, meet: true, script: [...times(PINGS, PONG), ...CLOSE] })
  const pings: Script = [...times(PINGS, PING), ...CLOSE]
  // What a first connection allocates is not what a stalled one holds.
  for (let id = 1; id <= 3; id += 1) await clientApp.dial({ host, port: 7000, introduce: id, script: pings })

  await t.test('a server that stops reading stops the client, and memory stays flat', async t => {
    const port = 7001
    await serverApp.serve({ port, meet: true, script: readsLate('up', STALLED_BYTES) })
    const sent = async () => (await clientApp.progress({ id: port }))?.sent ?? 0
    await stalls(t, pair, { port, sent, reader: serverApp, gate: 'up', script: writes(STALLED_BYTES) })
  })

  await t.test('a client that stops reading stops the server, and memory stays flat', async t => {
    const port = 7002
    await serverApp.serve({ port, meet: true, script: writes(STALLED_BYTES) })
    const sent = async () => (await serverApp.live({ port }))[0]?.sent ?? 0
    const script = readsLate('down', STALLED_BYTES)
    await stalls(t, pair, { port, sent, reader: clientApp, gate: 'down', script })
  })

  await t.test(`${STALLED} stalled readers each way do not stall their neighbours`, async t => {
    const bytes = 4 * MIB
    await serverApp.serve({
      port: 7003,
      script: [{ do: 'receive', bytes: NEIGHBOUR_BYTES }, { do: 'receiveEnd' }, ...writes(NEIGHBOUR_BYTES)],
    })
    await serverApp.serve({ port: 7004, meet: true, script: readsLate('many up', bytes) })
    await serverApp.serve({ port: 7005, meet: true, script: writes(bytes) })
    const neighbour = async () => {
      const speeds: number[] = []
      for (let turn = 0; turn < 3; turn += 1) {
        const script: Script = [
          { do: 'send', bytes: NEIGHBOUR_BYTES },
          { do: 'end' },
          { do: 'receive', bytes: NEIGHBOUR_BYTES },
          { do: 'receiveEnd' },
        ]
        const transcript = await clientApp.dial({ host, port: 7003, script })
        if (!isWhole(transcript)) t.fail(JSON.stringify(transcript))
        speeds.push(Math.round((2 * NEIGHBOUR_BYTES) / MIB / (transcript.ms / 1000)))
      }
      const { ms } = await clientApp.dial({ host, port: 7000, introduce: 1, script: pings })
      return { mibPerSecond: Math.max(...speeds), pingMs: Math.round((100 * ms) / PINGS) / 100 }
    }

    const alone = await neighbour()
    const before = await memoryOfBoth(pair)
    const many = { host, count: STALLED }
    const uploads = clientApp.dialMany({ ...many, port: 7004, script: writes(bytes) })
    const downloads = clientApp.dialMany({
      ...many,
      port: 7005,
      from: 1001,
      script: readsLate('many down', bytes),
    })
    await until(async () => (await serverApp.live({ port: 7005 })).length === STALLED)
    await delay(1_000)
    const held = await memoryOfBoth(pair)
    const beside = await neighbour()
    t.comment(`alone ${JSON.stringify(alone)}, beside stalled readers ${JSON.stringify(beside)}`)
    t.ok(beside.mibPerSecond >= alone.mibPerSecond / 2, 'a neighbour keeps half of its throughput')
    t.ok(beside.pingMs <= alone.pingMs * 2 + 1, 'and its bytes are not late')
    for (const end of SIDECARS) {
      const each = (held[end] - before[end]) / STALLED
      t.ok(each < STALLED_MEMORY_EACH, `the ${end}’s sidecar holds ${inMiB(each)} for each`)
    }
    await serverApp.open({ gate: 'many up' })
    await clientApp.open({ gate: 'many down' })
    t.same((await uploads).counts, { done: STALLED })
    t.same((await downloads).counts, { done: STALLED })
    for (const port of [7004, 7005]) {
      t.equal((await serverApp.served({ port, count: STALLED })).filter(isWhole).length, STALLED)
    }
    await untilNothingIsOpen(pair)
  })
})

type Stalled = {
  readonly port: number
  /** What the writer has got rid of. */
  readonly sent: () => Promise<number>
  readonly reader: Application
  /** The reader waits at it. */
  readonly gate: string
  /** The client's. */
  readonly script: Script
}

/** Asserts that the reader holds its writer back, and no memory; then that nothing was lost. */
async function stalls(t: Test, pair: Pair, { port, sent, reader, gate, script }: Stalled): Promise<void> {
  const { server, serverApp, clientApp } = pair
  const before = await memoryOfBoth(pair)
  const client = clientApp.dial({ host: server.ipv4, port, introduce: port, script })
  await delay(1_500)
  const taken = await sent()
  const held = await memoryOfBoth(pair)
  await delay(1_000)
  const later = await memoryOfBoth(pair)
  t.ok(taken > 0 && taken < STALLED_BYTES, `the writer was stopped at ${inMiB(taken)}`)
  t.equal(await sent(), taken, 'and writes no more')
  for (const end of SIDECARS) {
    const [grown, crept] = [held[end] - before[end], later[end] - held[end]]
    t.ok(grown < STALLED_MEMORY, `the ${end}’s sidecar holds ${inMiB(grown)} more`)
    t.ok(crept < MIB, `and it stays so: ${inMiB(crept)}`)
  }
  await reader.open({ gate })
  for (const transcript of [await client, ...(await serverApp.served({ port, count: 1 }))])
    t.ok(isWhole(transcript), JSON.stringify(transcript))
}
