// What the init container does in pods of each address family, and what it says when something is missing.
import t from 'tap'
import type { RuleOptions } from '../../proxy/init/rules.ts'
import { PROXY_UID } from '../../shared/ports.ts'
import { createNetwork } from '../support/netns.ts'
import { startAgent } from '../support/netns-client.ts'
import { requireNetns } from '../support/requirements.ts'

const OPTIONS: RuleOptions = {
  skipInboundPorts: [],
  skipOutboundPorts: [],
  skipOutboundCidrs: [],
  udp: 'allow',
}
const IPV4 = '192.0.2.1:1'
const IPV6 = '[2001:db8::1]:1'

const FAMILIES = [
  {
    pod: 'a dual-stack pod',
    families: { ipv4: true, ipv6: true },
    proofs: [
      { target: IPV4, result: 'captured' },
      { target: IPV6, result: 'captured' },
    ],
  },
  {
    pod: 'a pod without IPv6',
    families: { ipv4: true, ipv6: false },
    proofs: [
      { target: IPV4, result: 'captured' },
      { target: IPV6, result: 'no-route' },
    ],
  },
  {
    pod: 'a pod without IPv4',
    families: { ipv4: false, ipv6: true },
    proofs: [
      { target: IPV4, result: 'no-route' },
      { target: IPV6, result: 'captured' },
    ],
  },
] as const

const unlessNetns = { skip: requireNetns() }

for (const { pod, families, proofs } of FAMILIES) {
  t.test(`${pod}: the proof fails without rules and holds with them`, unlessNetns, async t => {
    await using network = await createNetwork()
    const namespace = await network.createPod('pod', families)
    const init = await startAgent(namespace)
    t.match(await init.prove(OPTIONS), { code: 'PSTN_INTERCEPTION', error: /did not arrive/ })
    t.equal(await init.install(OPTIONS), 'installed')
    t.strictSame(await init.prove(OPTIONS), proofs)
  })

  t.test(`${pod}: its sidecar captures both ways`, unlessNetns, async t => {
    await using network = await createNetwork()
    const namespace = await network.createPod('pod', families)
    const [init, sidecar, app, kubelet] = await Promise.all([
      startAgent(namespace),
      startAgent(namespace, { uid: PROXY_UID }),
      startAgent(namespace, { uid: 1000 }),
      startAgent(network.node),
    ])
    await init.install(OPTIONS)
    await sidecar.capture({ podIps: namespace.addresses, startupPath: '/startup' })
    for (const host of namespace.addresses) {
      t.match(await kubelet.dial({ host, port: 80 }), {
        by: 'inbound',
        destination: { address: host, port: 80 },
      })
    }
    for (const host of network.node.addresses.filter(host =>
      host.includes(':') ? families.ipv6 : families.ipv4,
    )) {
      t.match(await app.dial({ host, port: 80 }), {
        by: 'outbound',
        destination: { address: host, port: 80 },
      })
    }
  })
}

t.test(
  'a family whose rules are missing fails the proof although the other is captured',
  unlessNetns,
  async t => {
    await using network = await createNetwork()
    const init = await startAgent(await network.createPod('pod'))
    for (const hole of ['192.0.2.0/24', '2001:db8::/48']) {
      await init.install({ ...OPTIONS, skipOutboundCidrs: [hole] })
      t.match(await init.prove(OPTIONS), { code: 'PSTN_INTERCEPTION', error: /did not arrive/ }, hole)
    }
  },
)

t.test(
  'a network that swallows what leaves the pod is a missing rule too, not a hang',
  unlessNetns,
  async t => {
    await using network = await createNetwork()
    const init = await startAgent(await network.createPod('pod'))
    const swallow =
      'table inet t { chain c { type filter hook prerouting priority 0; meta l4proto tcp drop; }; }'
    await network.node.check('nft', ['-f', '-'], { input: swallow })
    t.match(await init.prove(OPTIONS), { code: 'PSTN_INTERCEPTION', error: /no answer within 2000 ms/ })
  },
)

t.test('what the options skip is not what the proof dials', unlessNetns, async t => {
  await using network = await createNetwork()
  const init = await startAgent(await network.createPod('pod'))
  const options = { ...OPTIONS, skipOutboundPorts: [1, 2], skipOutboundCidrs: ['192.0.2.0/24', '::/0'] }
  await init.install(options)
  t.strictSame(await init.prove(options), [{ target: '198.51.100.1:3', result: 'captured' }])
})

t.test('a pod that cannot send at all is refused, since nothing was proved', unlessNetns, async t => {
  await using network = await createNetwork()
  const init = await startAgent(await network.createNamespace('pod'))
  await init.install(OPTIONS)
  t.match(await init.prove(OPTIONS), { code: 'PSTN_INTERCEPTION', error: /no route in any address family/ })
})

t.test('without NET_ADMIN the rules are refused with the hint', unlessNetns, async t => {
  await using network = await createNetwork()
  const init = await startAgent(await network.createPod('pod'), { uid: 1000 })
  t.match(await init.install(OPTIONS), {
    code: 'PSTN_INTERCEPTION',
    error: /Operation not permitted.*NET_ADMIN/s,
  })
})

t.test(
  'the whole init container runs with no capability but NET_ADMIN, and its exit status tells',
  unlessNetns,
  async t => {
    await using network = await createNetwork()
    const [pod, unreachable] = await Promise.all([
      network.createPod('pod'),
      network.createNamespace('unreachable'),
    ])
    const program = `import { runInit } from '${new URL('../../proxy/init/main.ts', import.meta.url)}'
    import { createLogger } from '${new URL('../../shared/log.ts', import.meta.url)}'
    process.exitCode = await runInit(${JSON.stringify(OPTIONS)}, createLogger('init', 'info'))`
    const command = [
      '--bounding-set=-all,+net_admin,+dac_read_search',
      process.execPath,
      '--input-type=module',
      '-e',
      program,
    ]
    const done = await pod.run('setpriv', command)
    t.equal(done.status, 0)
    t.match(JSON.parse(done.stdout), {
      component: 'init',
      proofs: [{ result: 'captured' }, { result: 'captured' }],
    })
    const failed = await unreachable.run('setpriv', command)
    t.equal(failed.status, 1)
    t.match(JSON.parse(failed.stdout), { level: 'error', code: 'PSTN_INTERCEPTION', error: /no route/ })
  },
)
