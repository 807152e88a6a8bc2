// As many connections as a sidecar captures, all open, and some more: those are refused as a reset, and all others work.
import t from 'tap'
import { until } from '../kube/support/installation.ts'
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

// docs/operations.md, "Limits".
const CAPTURED = 10_000
const BURST = 1_000

t.test('connections that are captured at once', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack)
  const { server, client, serverApp, clientApp } = pair
  const host = server.ipv4
  const port = 7001
  await serverApp.serve({ port, meet: true, script: [...PONG, { do: 'receiveReset' }] })
  const script: Script = [...PING, { do: 'gate', name: 'flood' }, { do: 'reset' }]
  const before = await memoryOfBoth(pair)
  const flood: ReturnType<typeof clientApp.dialMany>[] = []
  for (let open = BURST; open <= CAPTURED; open += BURST) {
    flood.push(clientApp.dialMany({ host, port, count: BURST, script }))
    await until(async () => (await openIn(client)) === open)
  }
  const held = await memoryOfBoth(pair)
  for (const end of SIDECARS) {
    const each = (held[end] - before[end]) / CAPTURED / 1024
    t.comment(`${each.toFixed(1)} KiB each in the ${end}’s sidecar of ${inMiB(held[end])}`)
  }
  const listens: Script = [{ do: 'receiveReset' }]
  const beyond = await clientApp.dialMany({ host, port, count: 50, anonymous: true, script: listens })
  t.equal(await refusedBy(client, 'outbound', 'PSTN_LIMIT'), 50)
  t.same(beyond.counts, { done: 50 }, 'the application sees a reset, which is no end')
  await clientApp.open({ gate: 'flood' })
  for (const { counts } of await Promise.all(flood)) t.same(counts, { done: BURST })
  await untilNothingIsOpen(pair)
  await serverApp.serve({ port: 7000, meet: true, script: [...PONG, ...CLOSE] })
  t.ok(isWhole(await clientApp.dial({ host, port: 7000, introduce: 1, script: [...PING, ...CLOSE] })))
})
