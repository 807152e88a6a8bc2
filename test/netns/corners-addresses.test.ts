// Whatever an application dials leads to who has that address, and to nobody else: pods, Services, itself, and a pod that
// came to an address after another.
import t from 'tap'
import { INJECTOR_PORTS } from '../../shared/ports.ts'
import { until } from '../kube/support/installation.ts'
import type { LogLine } from '../support/namespace-kubelet.ts'
import type { Namespace } from '../support/netns.ts'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, MESH_NAMESPACE, metricsOf } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING, PONG, startPair, untilNothingIsOpen } from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const PORT = 7000
const ANSWER: Script = [...PONG, { do: 'receiveEnd' }, { do: 'end' }]
const TALK: Script = [...PING, ...CLOSE]
const HELD: Script = [...PING, { do: 'receiveEnd' }, { do: 'end' }]
const FAMILIES = ['ipv4', 'ipv6'] as const

const idOf = (serviceAccount: string) => `spiffe://cluster.local/ns/${MESH_NAMESPACE}/sa/${serviceAccount}`

t.test('addresses', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack)
  const { mesh, server, client, serverApp, clientApp } = pair
  const moved = await mesh.start('moved')
  const movedApp = await startApplication(moved.namespace)
  for (const app of [serverApp, movedApp]) await app.serve({ port: PORT, meet: true, script: ANSWER })
  const services = await mesh.createService('server', PORT, [server])
  const empty = await mesh.createService('empty', PORT, [])
  let dials = 0
  const dial = (app: typeof clientApp, host: string, port: number, script = TALK) =>
    app.dial({ host, port, introduce: ++dials, script })
  const leadsTo = (pod: string, identity: string) => (line: LogLine) =>
    isConnection({ direction: 'outbound', via: 'tunnel', outcome: 'ok' })(line) &&
    Reflect.get(Object(line.destination), 'pod') === `${MESH_NAMESPACE}/${pod}` &&
    Reflect.get(Object(line.destination), 'identity') === identity

  for (const [index, family] of FAMILIES.entries()) {
    const [service = '', none = ''] = [services[index], empty[index]]
    const own = server[family]

    await t.test(
      `${family}: a pod, as behind a headless Service, and a Service lead to the pod’s sidecar`,
      async t => {
        for (const [host, port] of [
          [own, PORT],
          [service, 80],
        ] as const) {
          t.ok(isWhole(await dial(clientApp, host, port)), host)
          const asked = (line: LogLine) => Reflect.get(Object(line.destination), 'address') === host
          await client.line(line => asked(line) && leadsTo('server', idOf('server'))(line))
        }
      },
    )

    await t.test(
      `${family}: an application reaches itself at its own pod’s address, without any sidecar`,
      async t => {
        const opened = async () => {
          const metric = await metricsOf(server)
          return ['inbound', 'outbound'].map(direction =>
            metric(`postern_connections_opened_total{direction="${direction}",via="tunnel"}`),
          )
        }
        const before = await opened()
        t.ok(isWhole(await dial(serverApp, own, PORT)))
        t.same(await opened(), before)
      },
    )

    await t.test(
      `${family}: an application reaches itself at its own Service, with its own identity`,
      async t => {
        t.ok(isWhole(await dial(serverApp, service, 80)))
        const fromItself = (line: LogLine) =>
          isConnection({ direction: 'inbound', via: 'tunnel', outcome: 'ok' })(line) &&
          Reflect.get(Object(line.source), 'identity') === idOf('server') &&
          Reflect.get(Object(line.destination), 'address') === own
        t.match(await server.line(fromItself), {
          source: { address: own },
          destination: { address: own, port: PORT },
        })
      },
    )

    await t.test(
      `${family}: a Service without an endpoint, or without that port, is a reset at once`,
      async t => {
        for (const [host, port] of [
          [none, 80],
          [service, 81],
        ] as const) {
          const { error, ms } = await dial(clientApp, host, port)
          t.equal(error, 'ECONNRESET')
          t.ok(ms < 1_000, `${Math.round(ms)} ms`)
          const asked = (line: LogLine) => Reflect.get(Object(line.destination), 'address') === host
          await client.line(line => asked(line) && line.code === 'PSTN_NO_ENDPOINT')
        }
      },
    )
  }

  await t.test('who gets a pod’s address is not taken for that pod', async t => {
    const host = moved.ipv4
    const held = dial(clientApp, host, PORT, HELD)
    await until(async () => (await movedApp.live({ port: PORT })).length === 1)
    await mesh.kube.delete(`/api/v1/namespaces/${MESH_NAMESPACE}/pods/moved?gracePeriodSeconds=0`)
    await using news = await withoutNews(client.namespace)
    const namespace = await mesh.network.replacePod(moved.namespace, 'other')
    const other = await mesh.start('other', { namespace })
    const otherApp = await startApplication(namespace)
    await otherApp.serve({ port: PORT, meet: true, script: ANSWER })
    t.equal(other.ipv4, host)

    const refused = await dial(clientApp, host, PORT)
    t.match(refused, { error: /ECONNRESET|EPIPE/, received: 0 }, 'a client that knows the old one refuses')
    await client.line(({ code }) => code === 'PSTN_PEER_UNEXPECTED')
    t.same(await otherApp.settled({ port: PORT }), [], 'and nothing of it reaches the new one')
    t.match(await held, { error: 'ECONNRESET', ended: false }, 'what was open to the old one is reset')

    await news.come()
    await until(async () => isWhole(await dial(clientApp, host, PORT)))
    await client.line(leadsTo('other', idOf('other')))
    await untilNothingIsOpen(pair)
  })
})

/** Neither hears the injector nor is heard by it. */
async function withoutNews(namespace: Namespace): Promise<AsyncDisposable & { come(): Promise<void> }> {
  const port = INJECTOR_PORTS.control
  const chain = (hook: string, side: string) =>
    `chain ${hook} {\ntype filter hook ${hook} priority 0\ntcp ${side} ${port} drop\n}\n`
  const table = `table inet without_news {\n${chain('input', 'sport')}${chain('output', 'dport')}}\n`
  await namespace.check('nft', ['-f', '-'], { input: table })
  let gone = false
  const come = async () => {
    if (!gone) await namespace.check('nft', ['delete', 'table', 'inet', 'without_news'])
    gone = true
  }
  return { come, [Symbol.asyncDispose]: come }
}
