// Every limit on connections that a neighbour or the application can reach: who is beyond it is refused at once and
// counted, and everybody else is served.
import t from 'tap'
import { PORTS } from '../../shared/ports.ts'
import { until } from '../kube/support/installation.ts'
import { ip } from '../support/netns.ts'
import type { Script } from '../support/netns-conversation.ts'
import { CLOSE, isWhole, PING, PONG, refusedBy, startPair } from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

// docs/operations.md, "Limits".
const HANDSHAKES = 256
const HANDSHAKES_PER_ADDRESS = 64
const STATUS_PER_ADDRESS = 32

t.test('limits', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const { server, plain, serverApp, clientApp, plainApp } = await startPair(t, stack)
  const host = server.ipv4
  await serverApp.serve({ port: 7000, meet: true, script: [...PONG, ...CLOSE] })
  const isServed = async () =>
    isWhole(await clientApp.dial({ host, port: 7000, introduce: 1, script: [...PING, ...CLOSE] }))
  t.ok(await isServed())

  await t.test('handshakes that are not done, for each address and in sum', async t => {
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
    t.ok(await isServed(), 'who has a tunnel is served meanwhile')
    await Promise.all([one, ...rest])
    const seconds = (performance.now() - started) / 1000
    t.ok(seconds > 4 && seconds < 9, `those are given up after ${seconds.toFixed(1)} s`)
    t.equal(await refusedBy(server, 'inbound', 'PSTN_TLS_FAILED'), HANDSHAKES, 'and counted')
  })

  await t.test('connections to the status port, for each address', async t => {
    const script: Script = [{ do: 'receiveEnd' }, { do: 'end' }]
    const count = STATUS_PER_ADDRESS + 8
    const silent = { host, port: PORTS.status, count, anonymous: true, timeoutMs: 500, script }
    const { counts } = await plainApp.dialMany(silent)
    t.same(counts, { done: 8, 'timeout after step 0 of 2': STATUS_PER_ADDRESS }, 'as many stay open')
  })
})
