// The namespaces themselves: that they connect, hold what they should, and are gone afterwards.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import t from 'tap'
import { createNetwork, enterNamespace } from '../support/netns.ts'
import { startAgent } from '../support/netns-client.ts'
import { requireNetns } from '../support/requirements.ts'

const unlessNetns = { skip: requireNetns() }
const namespaces = () => readdirSync('/run/netns')

t.test('pods reach each other and the node in both families, and nothing else', unlessNetns, async t => {
  await using network = await createNetwork()
  const [one, two] = await Promise.all([network.createPod('one'), network.createPod('two')])
  const [client, server, node] = await Promise.all([
    startAgent(one),
    startAgent(two),
    startAgent(network.node),
  ])
  await server.serve({ by: 'two', host: '::', port: 80 })
  await node.serve({ by: 'node', host: '::', port: 80 })
  for (const host of two.addresses) t.match(await client.dial({ host, port: 80 }), { by: 'two' })
  for (const host of network.node.addresses) t.match(await client.dial({ host, port: 80 }), { by: 'node' })
  for (const host of ['198.51.100.7', '2001:db8:7::7'])
    t.type(await client.dial({ host, port: 80 }), 'string')
})

t.test('a process runs as its uid, with no capability but to read', unlessNetns, async t => {
  await using network = await createNetwork()
  const pod = await network.createPod('pod')
  t.equal((await pod.check('id', ['-u'], { uid: 15008 })).trim(), '15008')
  const status = await pod.check('cat', ['/proc/self/status'], { uid: 15008 })
  t.match(status, /^CapEff:\s+0000000000000004$/m)
})

t.test('the test itself can be the node', unlessNetns, async t => {
  await using network = await createNetwork()
  const pod = await startAgent(await network.createPod('pod'))
  const server = createServer(socket => socket.end(JSON.stringify({ by: 'test' })))
  {
    using _inside = enterNamespace(network.node)
    server.listen(80, '10.77.0.1')
    await once(server, 'listening')
  }
  t.match(await pod.dial({ host: '10.77.0.1', port: 80 }), { by: 'test' })
  server.close()
})

t.test('nothing is left after a failure, not even a process', unlessNetns, async t => {
  let name = ''
  let pid = 0
  await t.rejects(async () => {
    await using network = await createNetwork()
    const pod = await network.createPod('pod')
    name = pod.name
    // One that ignores being asked to end, and its child.
    const child = pod.spawn('sh', ['-c', 'trap "" TERM; sleep 1000 & wait'])
    pid = child.pid ?? 0
    t.ok(namespaces().includes(name))
    throw new Error('the test failed')
  }, /the test failed/)
  t.notOk(namespaces().includes(name))
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})

t.test('what a killed test left is removed by the next', unlessNetns, async t => {
  const harness = new URL('../support/netns.ts', import.meta.url)
  const program = `import { createNetwork } from '${harness}'
    const network = await createNetwork()
    console.log(network.node.name)
    setInterval(() => {}, 1000)`
  const killed = spawn(process.execPath, ['--input-type=module', '-e', program])
  const [line] = await once(killed.stdout, 'data')
  const name = String(line).trim()
  t.ok(namespaces().includes(name))
  {
    await using _another = await createNetwork()
    t.ok(namespaces().includes(name), 'a live test keeps its namespaces')
  }
  killed.kill('SIGKILL')
  await once(killed, 'exit')
  await using _next = await createNetwork()
  t.notOk(namespaces().includes(name))
})
