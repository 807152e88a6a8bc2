import t from 'tap'
import { withheld } from '../../../../injector/control/withheld.ts'
import type { MeshPod } from '../../../../shared/control/messages.ts'
import { unreadableOutside } from '../../../../shared/policy/document.ts'

const mesh: MeshPod = {
  uid: 'u',
  name: 'web',
  namespace: 'shop',
  identity: 'spiffe://cluster.local/ns/shop/sa/web',
  skipInboundPorts: [],
}
const host = (...addresses: readonly string[]) => ({
  ...unreadableOutside('shop', 'x').outside,
  addresses,
})

t.test('a sidecar that knows nothing of hosts outside is told that nothing is there', async t => {
  const { prefixes, from } = withheld([host('203.0.113.0/28', '10.96.0.9/32'), host('203.0.113.0/28')])
  t.same(prefixes, ['203.0.113.0/28', '10.96.0.9/32'])
  const address = '203.0.113.7'
  t.same(from({ kind: 'plain', address }), { kind: 'unknown', address })
  t.same(from({ kind: 'plain', address: '198.51.100.1' }), { kind: 'plain', address: '198.51.100.1' })
  t.match(from({ kind: 'mesh', address, pod: mesh }), { kind: 'mesh' }, 'the mesh goes first')
})

t.test('of a Service it keeps what is in the mesh, and what nobody declared', async t => {
  const { from } = withheld([host('203.0.113.0/28', '10.96.0.9/32')])
  const endpoints = [
    { address: '10.1.0.1', port: 80, mesh },
    { address: '203.0.113.7', port: 80 },
    { address: '198.51.100.1', port: 80 },
  ]
  const service = (address: string) =>
    from({ kind: 'service', address, service: 'shop/x', ports: [{ port: 80, endpoints }] })
  t.match(service('10.96.0.1'), { ports: [{ endpoints: [{ mesh }, { address: '198.51.100.1' }] }] })
  t.match(service('10.96.0.9'), { ports: [{ endpoints: [{ mesh }] }] })
  t.equal(Reflect.get(service('10.96.0.9'), 'ports')[0].endpoints.length, 1)
})

t.test('without one nothing is changed', async t => {
  const { prefixes, from } = withheld([])
  const entry = { kind: 'plain', address: '203.0.113.7' } as const
  t.same(prefixes, [])
  t.equal(from(entry), entry)
})
