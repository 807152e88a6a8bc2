// The rules, tested by real connections between namespaces: a client pod with rules, a server pod with rules, and a
// plain pod without any; the node dials as the kubelet does. Both address families.
import t, { type Test } from 'tap'
import { type RuleOptions, rules } from '../../proxy/init/rules.ts'
import { PORTS, PROXY_UID } from '../../shared/ports.ts'
import { createNetwork, ip, type Namespace, type Network, setSysctl } from '../support/netns.ts'
import { type Agent, startAgent } from '../support/netns-client.ts'
import { requireNetns } from '../support/requirements.ts'

const APP_UID = 1000
const APP_PORT = 8080
const PROBE_PATH = '/startup/0f8fad5b'
const NOWHERE = { ipv4: '198.51.100.7', ipv6: '2001:db8:7::7' }
const FAMILIES = ['ipv4', 'ipv6'] as const
const DEFAULTS: RuleOptions = {
  skipInboundPorts: [],
  skipOutboundPorts: [],
  skipOutboundCidrs: [],
  udp: 'allow',
}

type Pod = {
  readonly namespace: Namespace
  readonly app: Agent
  readonly sidecar: Agent
  readonly ipv4: string
  readonly ipv6: string
}

const loadRules = (namespace: Namespace, options: Partial<RuleOptions> = {}) =>
  namespace.check('nft', ['-f', '-'], { input: rules({ ...DEFAULTS, ...options }) })

/** A pod with an application on APP_PORT and a sidecar that captures, without rules yet. */
async function createPod(network: Network, name: string): Promise<Pod> {
  const namespace = await network.createPod(name)
  const [app, sidecar] = await Promise.all([
    startAgent(namespace, { uid: APP_UID }),
    startAgent(namespace, { uid: PROXY_UID }),
  ])
  await app.serve({ by: `${name}-app`, host: '::', port: APP_PORT })
  await sidecar.capture({ podIps: namespace.addresses, startupPath: PROBE_PATH })
  return { namespace, app, sidecar, ipv4: namespace.ipv4 ?? '', ipv6: namespace.ipv6 ?? '' }
}

async function withNetwork(work: (network: Network) => Promise<void>): Promise<void> {
  await using network = await createNetwork()
  await work(network)
}

const unlessNetns = { skip: requireNetns() }

t.test('outbound capture', unlessNetns, t =>
  withNetwork(async network => {
    const [client, server] = await Promise.all([createPod(network, 'client'), createPod(network, 'server')])
    const { app, sidecar } = client

    for (const family of FAMILIES) {
      const dialServer = { host: server[family], port: APP_PORT }
      await t.test(`${family}: without rules nothing is captured`, async t => {
        t.match(await app.dial(dialServer), { by: 'server-app' })
      })
    }
    await loadRules(client.namespace)
    for (const family of FAMILIES) {
      const dialServer = { host: server[family], port: APP_PORT }
      await t.test(`${family}: a dial arrives at the sidecar with its original destination`, async t => {
        t.match(await app.dial(dialServer), {
          by: 'outbound',
          destination: { address: server[family], port: APP_PORT },
        })
      })
      await t.test(`${family}: a dial of an address that exists nowhere is captured too`, async t => {
        const destination = { address: NOWHERE[family], port: 443 }
        t.match(await app.dial({ host: NOWHERE[family], port: 443 }), { by: 'outbound', destination })
      })
      await t.test(`${family}: the sidecar itself is exempt`, async t => {
        t.match(await sidecar.dial(dialServer), { by: 'server-app', peer: new RegExp(`${client[family]}$`) })
      })
      await t.test(`${family}: loopback is untouched`, async t => {
        const host = { ipv4: '127.0.0.1', ipv6: '::1' }[family]
        t.match(await app.dial({ host, port: APP_PORT }), { by: 'client-app' })
      })
      await t.test(`${family}: the pod's own address is untouched`, async t => {
        t.match(await app.dial({ host: client[family], port: APP_PORT }), { by: 'client-app' })
      })
      await t.test(`${family}: a dial of the capture listener itself is a loop`, async t => {
        const host = { ipv4: '127.0.0.1', ipv6: '::1' }[family]
        t.match(await app.dial({ host, port: PORTS.outbound }), { by: 'outbound', code: 'PSTN_LOOP' })
      })
    }

    await loadRules(client.namespace, { skipOutboundPorts: [APP_PORT] })
    for (const family of FAMILIES) {
      await t.test(`${family}: a skipped port goes out directly, others are captured`, async t => {
        t.match(await app.dial({ host: server[family], port: APP_PORT }), { by: 'server-app' })
        t.match(await app.dial({ host: server[family], port: APP_PORT + 1 }), { by: 'outbound' })
      })
    }
    await loadRules(client.namespace, { skipOutboundCidrs: [`${server.ipv4}/32`, `${server.ipv6}/128`] })
    for (const family of FAMILIES) {
      await t.test(`${family}: a skipped prefix goes out directly, others are captured`, async t => {
        t.match(await app.dial({ host: server[family], port: APP_PORT }), { by: 'server-app' })
        t.match(await app.dial({ host: NOWHERE[family], port: APP_PORT }), { by: 'outbound' })
      })
    }
  }),
)

t.test('inbound capture', unlessNetns, t =>
  withNetwork(async network => {
    const [server, client] = await Promise.all([createPod(network, 'server'), createPod(network, 'client')])
    const kubelet = await startAgent(network.node)
    await server.sidecar.serve({ by: 'tunnel', host: '::', port: PORTS.tunnel })
    await server.sidecar.serve({ by: 'status', host: '::', port: PORTS.status })
    await server.app.serve({ by: 'skipped-app', host: '::', port: 2222 })

    for (const family of FAMILIES) {
      await t.test(`${family}: without the redirect the start-up probe finds nobody`, async t => {
        const probe = { host: server[family], port: PORTS.startup, path: PROBE_PATH }
        t.equal(await kubelet.get(probe), 'ECONNREFUSED')
      })
    }
    await loadRules(server.namespace, { skipInboundPorts: [2222] })
    for (const family of FAMILIES) {
      const host = server[family]
      await t.test(`${family}: a dial of the application arrives at the sidecar`, async t => {
        t.match(await client.app.dial({ host, port: APP_PORT }), {
          by: 'inbound',
          peer: client[family],
          destination: { address: host, port: APP_PORT },
          code: undefined,
        })
      })
      await t.test(`${family}: the tunnel and status ports are reached directly`, async t => {
        t.match(await client.app.dial({ host, port: PORTS.tunnel }), { by: 'tunnel' })
        t.match(await client.app.dial({ host, port: PORTS.status }), { by: 'status' })
      })
      await t.test(`${family}: a skipped port is reached directly`, async t => {
        t.match(await client.app.dial({ host, port: 2222 }), { by: 'skipped-app' })
      })
      for (const port of [PORTS.outbound, PORTS.inbound]) {
        await t.test(`${family}: a remote dial of ${port} arrives with that port and is refused`, async t => {
          const answer = { by: 'inbound', destination: { address: host, port }, code: 'PSTN_OWN_PORT' }
          t.match(await client.app.dial({ host, port }), answer)
        })
      }
      await t.test(
        `${family}: the redirect proves itself to the start-up probe on the exact path`,
        async t => {
          t.equal(await kubelet.get({ host, port: PORTS.startup, path: PROBE_PATH }), 200)
          t.equal(await kubelet.get({ host, port: PORTS.startup, path: '/' }), 404)
        },
      )
      await t.test(`${family}: inside the pod the application is reached directly`, async t => {
        t.match(await server.app.dial({ host, port: APP_PORT }), { by: 'server-app' })
      })
    }
  }),
)

t.test('the same rules loaded three times are there once and still capture', unlessNetns, t =>
  withNetwork(async network => {
    const pod = await createPod(network, 'pod')
    const list = () => pod.namespace.check('nft', ['list', 'ruleset'])
    await loadRules(pod.namespace)
    const once = await list()
    await loadRules(pod.namespace)
    await loadRules(pod.namespace)
    t.equal(await list(), once)
    t.match(await pod.app.dial({ host: NOWHERE.ipv4, port: 80 }), { by: 'outbound' })
  }),
)

t.test('traffic that a pod forwards for something inside it', unlessNetns, t =>
  withNetwork(async network => {
    const [outer, server] = await Promise.all([createPod(network, 'outer'), createPod(network, 'server')])
    const inner = await network.createNamespace('inner')
    await ip(inner, [
      `link add eth0 type veth peer name inner0 netns ${outer.namespace.name}`,
      'link set eth0 up',
      'addr add 10.78.0.2/24 dev eth0',
      'addr add fd78::2/64 dev eth0',
    ])
    await ip(outer.namespace, [
      'link set inner0 up',
      'addr add 10.78.0.1/24 dev inner0',
      'addr add fd78::1/64 dev inner0',
    ])
    await ip(inner, ['route add default via 10.78.0.1', 'route add default via fd78::1'])
    await ip(server.namespace, [
      `route add 10.78.0.0/24 via ${outer.ipv4}`,
      `route add fd78::/64 via ${outer.ipv6}`,
    ])
    await setSysctl(outer.namespace, 'net/ipv4/ip_forward', '1')
    await setSysctl(outer.namespace, 'net/ipv6/conf/all/forwarding', '1')
    await loadRules(outer.namespace)
    const innerAgent = await startAgent(inner, { uid: APP_UID })
    await innerAgent.serve({ by: 'inner-app', host: '::', port: APP_PORT })

    for (const family of FAMILIES) {
      const innerAddress = { ipv4: '10.78.0.2', ipv6: 'fd78::2' }[family]
      await t.test(`${family}: is left alone on its way out`, async t => {
        const answer = { by: 'server-app', peer: new RegExp(`${innerAddress}$`) }
        t.match(await innerAgent.dial({ host: server[family], port: APP_PORT }), answer)
      })
      await t.test(`${family}: is left alone on its way in`, async t => {
        t.match(await server.app.dial({ host: innerAddress, port: APP_PORT }), { by: 'inner-app' })
      })
      await t.test(`${family}: while a dial of the pod itself is captured`, async t => {
        t.match(await innerAgent.dial({ host: outer[family], port: APP_PORT }), { by: 'inbound' })
      })
    }
  }),
)

t.test('UDP', unlessNetns, t =>
  withNetwork(async network => {
    const [pod, other] = await Promise.all([createPod(network, 'pod'), createPod(network, 'other')])
    const dns = await startAgent(other.namespace)
    for (const port of [53, 4433]) await dns.echoUdp({ host: '::', port })
    await pod.app.echoUdp({ host: '::', port: 4433 })

    await loadRules(pod.namespace, { udp: 'allow' })
    for (const family of FAMILIES) {
      await t.test(`${family}: allow lets datagrams out and in`, t => exchanges(t, family, 'hello', 'hello'))
    }
    await loadRules(pod.namespace, { udp: 'block' })
    for (const family of FAMILIES) {
      await t.test(`${family}: block stops what leaves and what arrives`, t =>
        exchanges(t, family, 'EPERM', 'timeout'),
      )
      await t.test(`${family}: block lets DNS, loopback and the sidecar through`, async t => {
        const host = { ipv4: '127.0.0.1', ipv6: '::1' }[family]
        t.equal(await pod.app.sendUdp({ host: other[family], port: 53 }), 'hello')
        t.equal(await pod.app.sendUdp({ host, port: 4433 }), 'hello')
        t.equal(await pod.sidecar.sendUdp({ host: other[family], port: 4433 }), 'hello')
      })
      await t.test(`${family}: block leaves the capture of TCP as it is`, async t => {
        t.match(await pod.app.dial({ host: other[family], port: APP_PORT }), { by: 'outbound' })
      })
    }

    async function exchanges(t: Test, family: 'ipv4' | 'ipv6', out: string, into: string) {
      t.equal(await pod.app.sendUdp({ host: other[family], port: 4433 }), out, 'out')
      t.equal(await other.app.sendUdp({ host: pod[family], port: 4433 }), into, 'in')
    }
  }),
)
