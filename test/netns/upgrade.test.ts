// While a cluster is upgraded the injector is new and sidecars are old and new: they carry each other's connections.
import { join } from 'node:path'
import t from 'tap'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole } from '../support/netns-pair.ts'
import { releasedSources } from '../support/released.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'

const BYTES = 5_000_000
const SEND: Script = [
  { do: 'send', bytes: BYTES },
  { do: 'receive', bytes: BYTES },
]
const ANSWER: Script = [
  { do: 'receive', bytes: BYTES },
  { do: 'send', bytes: BYTES },
]

const lacking = requireNetns() || requireApiServer() || requireCommands('git', 'tar')

t.test('sidecars of v0.1.0 under this injector', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const main = join(releasedSources(t, '0.1.0'), 'proxy/main.ts')
  const mesh = await startMesh(t, stack)
  const [older, newer] = await Promise.all([mesh.start('older', { main }), mesh.start('newer')])
  for (const [name, from, to] of [
    ['an older one opens tunnels to a newer one', older, newer],
    ['a newer one opens tunnels to an older one', newer, older],
  ] as const)
    await t.test(`${name}, each under its own identity`, async t => {
      const [client, server] = await Promise.all([
        startApplication(from.namespace),
        startApplication(to.namespace),
      ])
      await server.serve({ port: 7000, script: [...ANSWER, ...CLOSE] })
      const saw = await client.dial({ host: to.ipv4, port: 7000, script: [...SEND, ...CLOSE] })
      t.ok(isWhole(saw), JSON.stringify(saw))
      const line = await to.line(isConnection({ direction: 'inbound', outcome: 'ok' }))
      t.match(line, { source: { identity: new RegExp(`/sa/${from.pod.metadata?.name}$`) } })
    })
})
