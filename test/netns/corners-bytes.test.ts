// Corners of one connection: what two applications see through the sidecars is what they see over plain TCP. Each script
// is held against a direct connection first, so that a script that no connection could follow proves nothing.
import t from 'tap'
import { until } from '../kube/support/installation.ts'
import type { LogLine } from '../support/namespace-kubelet.ts'
import { type Application, startApplication } from '../support/netns-applications.ts'
import type { Script, Transcript } from '../support/netns-conversation.ts'
import { isConnection, metricsOf, openIn, startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

type Corner = { readonly name: string; readonly client: Script; readonly server: Script }

const CORNERS: readonly Corner[] = [
  {
    name: 'the client ends first and still receives',
    client: [
      { do: 'send', bytes: 1000 },
      { do: 'end' },
      { do: 'receive', bytes: 3_000_000 },
      { do: 'receiveEnd' },
    ],
    server: [
      { do: 'receive', bytes: 1000 },
      { do: 'receiveEnd' },
      { do: 'wait', ms: 50 },
      { do: 'send', bytes: 3_000_000 },
      { do: 'end' },
    ],
  },
  {
    name: 'the server ends first and still receives',
    client: [{ do: 'receiveEnd' }, { do: 'wait', ms: 50 }, { do: 'send', bytes: 3_000_000 }, { do: 'end' }],
    server: [{ do: 'end' }, { do: 'receive', bytes: 3_000_000 }, { do: 'receiveEnd' }],
  },
  {
    name: 'both end at the same time',
    client: [{ do: 'send', bytes: 10 }, { do: 'end' }, { do: 'receive', bytes: 10 }, { do: 'receiveEnd' }],
    server: [{ do: 'send', bytes: 10 }, { do: 'end' }, { do: 'receive', bytes: 10 }, { do: 'receiveEnd' }],
  },
  {
    name: 'the client resets',
    client: [{ do: 'send', bytes: 10 }, { do: 'receive', bytes: 10 }, { do: 'reset' }],
    server: [{ do: 'receive', bytes: 10 }, { do: 'send', bytes: 10 }, { do: 'receiveReset' }],
  },
  {
    name: 'the server resets',
    client: [
      { do: 'send', bytes: 10 },
      { do: 'receive', bytes: 10 },
      { do: 'send', bytes: 1 },
      { do: 'receiveReset' },
    ],
    server: [
      { do: 'receive', bytes: 10 },
      { do: 'send', bytes: 10 },
      { do: 'receive', bytes: 1 },
      { do: 'reset' },
    ],
  },
  {
    name: 'the client resets what the server has ended',
    client: [{ do: 'receiveEnd' }, { do: 'send', bytes: 10 }, { do: 'wait', ms: 50 }, { do: 'reset' }],
    server: [{ do: 'end' }, { do: 'receive', bytes: 10 }, { do: 'receiveReset' }],
  },
  {
    name: 'the server resets what the client has ended',
    client: [{ do: 'end' }, { do: 'receive', bytes: 10 }, { do: 'receiveReset' }],
    server: [{ do: 'receiveEnd' }, { do: 'send', bytes: 10 }, { do: 'wait', ms: 50 }, { do: 'reset' }],
  },
  {
    name: 'the client resets after its own end',
    client: [{ do: 'end' }, { do: 'receive', bytes: 10 }, { do: 'reset' }],
    server: [{ do: 'receiveEnd' }, { do: 'send', bytes: 10 }, { do: 'receiveReset' }],
  },
  {
    name: 'the server resets after its own end',
    client: [{ do: 'receiveEnd' }, { do: 'send', bytes: 10 }, { do: 'receiveReset' }],
    server: [{ do: 'end' }, { do: 'receive', bytes: 10 }, { do: 'reset' }],
  },
  {
    name: 'the server resets at once',
    client: [{ do: 'receiveReset' }],
    server: [{ do: 'reset' }],
  },
  {
    name: 'no byte is sent and the client ends',
    client: [{ do: 'end' }, { do: 'receiveEnd' }],
    server: [{ do: 'receiveEnd' }, { do: 'end' }],
  },
  {
    name: 'no byte is sent and the server ends',
    client: [{ do: 'receiveEnd' }, { do: 'end' }],
    server: [{ do: 'end' }, { do: 'receiveEnd' }],
  },
  {
    name: 'the server speaks first',
    client: [
      { do: 'receive', bytes: 40 },
      { do: 'send', bytes: 20 },
      { do: 'receive', bytes: 40 },
      { do: 'end' },
    ],
    server: [
      { do: 'send', bytes: 40 },
      { do: 'receive', bytes: 20 },
      { do: 'send', bytes: 40 },
      { do: 'receiveEnd' },
      { do: 'end' },
    ],
  },
  {
    name: 'the client never says a byte',
    client: [{ do: 'receive', bytes: 100_000 }, { do: 'receiveEnd' }, { do: 'end' }],
    server: [{ do: 'send', bytes: 100_000 }, { do: 'end' }, { do: 'receiveEnd' }],
  },
  {
    name: 'the client sends and ends before the server reads',
    client: [{ do: 'send', bytes: 300_000 }, { do: 'end' }, { do: 'receiveEnd' }],
    server: [
      { do: 'stall' },
      { do: 'wait', ms: 300 },
      { do: 'resume' },
      { do: 'receive', bytes: 300_000 },
      { do: 'receiveEnd' },
      { do: 'end' },
    ],
  },
  {
    name: 'the server sends and ends before the client reads',
    client: [
      { do: 'stall' },
      { do: 'wait', ms: 300 },
      { do: 'resume' },
      { do: 'receive', bytes: 300_000 },
      { do: 'receiveEnd' },
      { do: 'end' },
    ],
    server: [{ do: 'send', bytes: 300_000 }, { do: 'end' }, { do: 'receiveEnd' }],
  },
  {
    name: 'ten thousand writes of one byte',
    client: [{ do: 'send', bytes: 10_000, chunk: 1 }, { do: 'end' }, { do: 'receiveEnd' }],
    server: [{ do: 'receive', bytes: 10_000 }, { do: 'receiveEnd' }, { do: 'end' }],
  },
]

const PING_PONGS = 10_000
const MIB = 1024 * 1024
const FIRST_PORT = 7000
const portOf = (corner: Corner) => FIRST_PORT + CORNERS.indexOf(corner)

/** What does not depend on the time that it took. */
const seen = ({ connectMs: _, ms: __, sent: ___, ...facts }: Transcript) => facts

t.test('one connection', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const [server, client] = await Promise.all([mesh.start('server'), mesh.start('client')])
  const [plainServer, plainClient] = await Promise.all([
    mesh.startPlain('plain-server'),
    mesh.startPlain('plain-client'),
  ])
  const [serverApp, clientApp, plainServerApp, plainClientApp] = (await Promise.all(
    [server, client, plainServer, plainClient].map(({ namespace }) => startApplication(namespace)),
  )) as [Application, Application, Application, Application]
  const direct = { name: 'direct', from: plainClientApp, to: plainServerApp, host: plainServer.ipv4 }
  const tunnel = { name: 'tunnel, IPv4', from: clientApp, to: serverApp, host: server.ipv4 }
  const tunnel6 = { name: 'tunnel, IPv6', from: clientApp, to: serverApp, host: server.ipv6 }
  const ways = [
    tunnel,
    tunnel6,
    { name: 'plaintext in', from: plainClientApp, to: serverApp, host: server.ipv4 },
    { name: 'plaintext out', from: clientApp, to: plainServerApp, host: plainServer.ipv6 },
  ]

  /** What both ends saw of one connection that follows a served script. */
  const played = async ({ from, to, host }: typeof direct, port: number, script: Script) => {
    await to.settled({ port })
    const clientSaw = await from.dial({ host, port, script })
    const [serverSaw] = await to.served({ port, count: 1 })
    return { client: clientSaw, server: serverSaw as Transcript }
  }
  const complete = ({ client, server }: Awaited<ReturnType<typeof played>>) =>
    [client, server].every(
      ({ done, steps, error, wrongAt }) => done === steps && !error && wrongAt === undefined,
    )
  const mibPerSecond = ({ received, sent, ms }: Transcript) =>
    Math.round((received + sent) / MIB / (ms / 1000))

  for (const app of [serverApp, plainServerApp])
    for (const corner of CORNERS) await app.serve({ port: portOf(corner), script: corner.server })

  for (const corner of CORNERS) {
    await t.test(corner.name, async t => {
      const control = await played(direct, portOf(corner), corner.client)
      t.ok(complete(control), `a direct connection does it: ${JSON.stringify(control)}`)
      for (const way of ways) {
        const { client, server } = await played(way, portOf(corner), corner.client)
        t.same(seen(client), seen(control.client), `${way.name}: the client sees the same`)
        t.same(seen(server), seen(control.server), `${way.name}: the server sees the same`)
      }
    })
  }

  await t.test('a byte goes back and forth ten thousand times', async t => {
    const [ping, pong] = [
      { do: 'send', bytes: 1 },
      { do: 'receive', bytes: 1 },
    ] as const
    const times = (steps: Script): Script => Array.from({ length: PING_PONGS }, () => steps).flat()
    const port = 6000
    await serverApp.serve({ port, script: [...times([pong, ping]), { do: 'receiveEnd' }, { do: 'end' }] })
    const saw = await played(tunnel, port, [...times([ping, pong]), { do: 'end' }, { do: 'receiveEnd' }])
    t.ok(complete(saw), JSON.stringify(saw))
    t.equal(saw.client.received, PING_PONGS)
    t.comment(`${Math.round((saw.client.ms * 1000) / PING_PONGS)} µs each`)
  })

  const bulk = [
    { name: '256 MiB arrive whole at the server', forth: 256 * MIB, back: 0 },
    { name: '256 MiB arrive whole at the client', forth: 0, back: 256 * MIB },
    { name: '256 MiB arrive whole each way at once', forth: 256 * MIB, back: 256 * MIB },
  ]
  for (const [index, { name, forth, back }] of bulk.entries()) {
    await t.test(name, async t => {
      const port = 6100 + index
      const script = (send: number, receive: number): Script => [
        { do: 'send', bytes: send },
        { do: 'end' },
        { do: 'receive', bytes: receive },
        { do: 'receiveEnd' },
      ]
      await serverApp.serve({ port, script: script(back, forth) })
      const saw = await played(index === 1 ? tunnel6 : tunnel, port, script(forth, back))
      t.ok(complete(saw), JSON.stringify(saw))
      t.match(saw, { client: { received: back }, server: { received: forth } })
      t.comment(`${mibPerSecond(saw.client)} MiB/s`)
    })
  }

  await t.test(
    'an application that does not listen is a reset at once, by its code in both logs',
    async t => {
      for (const { host } of [tunnel, tunnel6]) {
        const { error, ms } = await clientApp.dial({ host, port: 9, script: [{ do: 'receiveEnd' }] })
        t.equal(error, 'ECONNRESET')
        t.ok(ms < 1000, `${Math.round(ms)} ms`)
      }
      const code = 'PSTN_APP_UNREACHABLE'
      const refused = (direction: string) => (line: LogLine) =>
        isConnection({ direction, outcome: 'refused', code })(line) && Object(line.destination).port === 9
      for (const [pod, direction] of [
        [server, 'inbound'],
        [client, 'outbound'],
      ] as const) {
        await pod.line(refused(direction))
        const metric = await metricsOf(pod)
        t.ok(metric(`postern_connections_refused_total{direction="${direction}",code="${code}"}`) >= 2)
      }
      t.match(await plainClientApp.dial({ host: direct.host, port: 9, script: [] }), {
        error: 'ECONNREFUSED',
      })
    },
  )

  await t.test('a client that resets at once is never taken for one that ended', async t => {
    const [port, host] = [6200, server.ipv4]
    await serverApp.serve({ port, script: [{ do: 'receiveReset' }] })
    const script: Script = [{ do: 'send', bytes: 100 }, { do: 'reset' }]
    const { counts } = await clientApp.dialMany({ host, port, script, count: 500, atOnce: 20 })
    t.same(counts, { done: 500 })
    await until(async () => (await openIn(server)) === 0)
    const saw = await serverApp.settled({ port })
    t.same(
      saw.filter(({ reset }) => !reset),
      [],
    )
    t.comment(`the server’s application saw ${saw.length} of them`)

    await clientApp.dial({
      host,
      port,
      script: [{ do: 'send', bytes: 100 }, { do: 'end' }, { do: 'receiveEnd' }],
    })
    // What was reset last may come in only now.
    const all = await serverApp.settled({ port })
    t.match(
      all.filter(({ reset }) => !reset),
      [{ error: /ended in order/ }],
      'which would be seen',
    )
  })

  await t.test('a source port is used again at once, whoever closed the connection before', async t => {
    const localPort = 45_678
    const greet = (bytes: number, rest: Script): Script => [{ do: 'send', bytes }, ...rest]
    await serverApp.serve({ port: 6300, script: greet(5, [{ do: 'end' }, { do: 'receiveEnd' }]) })
    await serverApp.serve({ port: 6301, script: greet(6, [{ do: 'receiveReset' }]) })
    const closing: Script = [{ do: 'receive', bytes: 5 }, { do: 'receiveEnd' }, { do: 'end' }]
    const resetting: Script = [{ do: 'receive', bytes: 6 }, { do: 'reset' }]
    for (const { host } of [tunnel, tunnel6]) {
      for (let turn = 0; turn < 10; turn += 1) {
        for (const [port, script] of [
          [6300, closing],
          [6301, resetting],
        ] as const) {
          const { error, done } = await clientApp.dial({ host, port, script, localPort })
          t.same({ error, done }, { error: undefined, done: script.length }, `turn ${turn}, port ${port}`)
        }
      }
    }
  })

  await t.test('one source port leads to two destinations at once, each to its own', async t => {
    const localPort = 45_679
    const held = (bytes: number): Script => [{ do: 'send', bytes }, { do: 'receiveEnd' }, { do: 'end' }]
    await serverApp.serve({ port: 6400, script: held(7) })
    await plainServerApp.serve({ port: 6400, script: held(9) })
    const taking = (bytes: number): Script => [
      { do: 'receive', bytes },
      { do: 'wait', ms: 100 },
      { do: 'end' },
      { do: 'receiveEnd' },
    ]
    const [one, other] = await Promise.all([
      clientApp.dial({ host: server.ipv4, port: 6400, localPort, script: taking(7) }),
      clientApp.dial({ host: plainServer.ipv4, port: 6400, localPort, script: taking(9) }),
    ])
    t.match(one, { received: 7, ended: true, error: undefined })
    t.match(other, { received: 9, ended: true, error: undefined })
  })
})
