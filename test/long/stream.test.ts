// Ten gibibytes on one connection, each way: every byte is compared, and neither sidecar grows with what has passed.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Script } from '../support/netns-conversation.ts'
import { CLOSE, isWhole, memoryOfBoth, SIDECARS, startPair } from '../support/netns-pair.ts'
import { inMiB } from '../support/process-memory.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const GIB = 1024 ** 3
/** A shorter run of the same: POSTERN_STREAM_GIB. */
const SIZE = Number(process.env.POSTERN_STREAM_GIB ?? 10)
const BYTES = Math.round(SIZE * GIB)
const TIMEOUT_MS = 30 * 60_000
const GROWTH = 1.2

t.test(`${SIZE} GiB`, { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack)
  const { server, serverApp, clientApp } = pair
  const sends: Script = [{ do: 'send', bytes: BYTES }, ...CLOSE]
  const receives: Script = [{ do: 'receive', bytes: BYTES }, { do: 'receiveEnd' }, { do: 'end' }]
  const ways = [
    { name: 'from the client', port: 7000, client: sends, server: receives },
    { name: 'from the server', port: 7001, client: receives, server: sends },
  ]
  for (const { name, port, client: script, server: served } of ways) {
    await t.test(`${name}, every byte compared, in flat memory`, async t => {
      await serverApp.serve({ port, script: served, timeoutMs: TIMEOUT_MS })
      const passed = clientApp.dial({ host: server.ipv4, port, script, timeoutMs: TIMEOUT_MS })
      let running = true
      void passed.finally(() => {
        running = false
      })
      await delay(5_000)
      const early = await memoryOfBoth(pair)
      let most = early
      while (running) {
        await delay(1_000)
        const now = await memoryOfBoth(pair)
        most = { server: Math.max(most.server, now.server), client: Math.max(most.client, now.client) }
      }
      const transcript = await passed
      for (const end of [transcript, ...(await serverApp.served({ port, count: 1 }))])
        t.ok(isWhole(end), JSON.stringify(end))
      for (const end of SIDECARS) {
        const [was, is] = [early[end], most[end]]
        t.ok(
          is < was * GROWTH,
          `the ${end}’s sidecar: ${inMiB(was)} after five seconds, then ${inMiB(is)} at most`,
        )
      }
      t.comment(`${Math.round(BYTES / 1024 ** 2 / (transcript.ms / 1000))} MiB/s`)
    })
  }
})
