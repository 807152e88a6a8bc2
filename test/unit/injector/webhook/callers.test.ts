// Many strangers, each within its own share, and an API server that is known by its address.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import type { V1EndpointSlice } from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { reduce } from '../../../../injector/directory/reduce.ts'
import { createWorld } from '../../../../injector/directory/world.ts'
import { allowances, callerOf, isApiServer, limitConnections } from '../../../../injector/webhook/callers.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const slice = (place: string, addresses: readonly string[], service = 'kubernetes'): V1EndpointSlice => {
  const [namespace = '', name = ''] = place.split('/')
  return {
    metadata: { name, namespace, labels: { 'kubernetes.io/service-name': service } },
    addressType: addresses.some(address => address.includes(':')) ? 'IPv6' : 'IPv4',
    ports: [{ name: 'https', port: 6443, protocol: 'TCP' }],
    endpoints: addresses.map(address => ({ addresses: [address], conditions: { ready: true } })),
  }
}

t.test('API servers are known by the addresses that they publish, as long as they publish them', async t => {
  const world = createWorld(WORLD_SETTINGS)
  const known = isApiServer(world)
  t.notOk(known('10.0.0.1'), 'before anything is known of the cluster')
  const items = [
    slice('default/kubernetes', ['10.0.0.1', '10.0.0.2']),
    slice('default/kubernetes-v6', ['2001:db8::1']),
    slice('shop/kubernetes', ['10.1.0.1']),
    slice('default/web', ['10.1.0.2'], 'web'),
  ]
  reduce(world, { kind: 'list', resource: 'endpointslices', items })
  for (const address of ['10.0.0.1', '10.0.0.2', '2001:db8::1']) t.ok(known(address), address)
  for (const address of ['10.1.0.1', '10.1.0.2', '']) t.notOk(known(address), address)
  const object = slice('default/kubernetes', ['10.0.0.2'])
  reduce(world, { kind: 'set', resource: 'endpointslices', object })
  t.notOk(known('10.0.0.1'), 'one that is gone is a stranger')
})

t.test('an address is known in whatever form the socket has it', async t => {
  const known = (address: string) => address === '10.0.0.1' || address === '2001:db8::1'
  const kinds = ['10.0.0.1', '::ffff:10.0.0.1', '2001:db8:0::1', '10.0.0.2', undefined].map(remoteAddress => {
    return callerOf({ remoteAddress }, known).kind
  })
  t.strictSame(kinds, ['api-server', 'api-server', 'api-server', 'other', 'other'])
})

t.test('what strangers have under way is not taken from API servers', async t => {
  const limits = {
    concurrent: 4,
    concurrentPerAddress: 2,
    concurrentReserved: 0,
    heldBytes: 400,
    heldBytesPerAddress: 200,
  }
  const allowed = allowances(limits)
  for (const address of ['a', 'a', 'b', 'b']) allowed.other.takePlace(address)
  t.throws(() => allowed.other.takePlace('c'), { code: 'PSTN_LIMIT' })
  allowed['api-server'].takePlace('c')
  allowed.other.memory.hold('a', 200)
  allowed.other.memory.hold('b', 200)
  t.throws(() => allowed.other.memory.hold('c', 1), { code: 'PSTN_LIMIT' })
  allowed['api-server'].memory.hold('c', 200)
  t.throws(() => allowed['api-server'].memory.hold('c', 1), { code: 'PSTN_LIMIT' }, 'which have a share too')
})

/** A listener that strangers on three addresses have filled, and what becomes of one caller more. */
async function crowded(t: Test, known: (address: string) => boolean): Promise<'served' | 'closed'> {
  const server = createServer()
  limitConnections(server, { connections: 6, connectionsPerAddress: 2 }, known, () => undefined)
  server.on('connection', socket => {
    if (!socket.destroyed) socket.on('error', () => undefined).end('served')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const from = async (localAddress: string) => {
    // They keep their own half open.
    const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true })
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
    const [first] = await Promise.race([once(socket, 'data'), once(socket, 'end'), once(socket, 'close')])
    return first instanceof Buffer ? 'served' : 'closed'
  }
  t.teardown(() => server.close())
  const strangers = ['127.0.0.2', '127.0.0.3', '127.0.0.4'].flatMap(address => [address, address])
  for (const address of strangers) t.equal(await from(address), 'served')
  return from('127.0.0.9')
}

t.test('however many addresses strangers have, an API server gets its connections', async t => {
  t.equal(await crowded(t, address => address === '127.0.0.9'), 'served')
  t.equal(await crowded(t, () => false), 'closed', 'where it is not known it is one of them')
})
