import t from 'tap'
import { type Outbound, routeOf, type SingleEntry } from '../../../../proxy/resolve/route.ts'
import type { MeshPod } from '../../../../shared/control/messages.ts'
import { PORTS } from '../../../../shared/ports.ts'

const A = '10.244.0.1'
const V6 = 'fd00::1'

const pod = (skipInboundPorts: readonly number[] = []): MeshPod => ({
  uid: 'u-1',
  name: 'web-1',
  namespace: 'shop',
  identity: 'spiffe://cluster.local/ns/shop/sa/web',
  skipInboundPorts,
})
const mesh = (skipped?: readonly number[], address = A): SingleEntry => ({
  kind: 'mesh',
  address,
  pod: pod(skipped),
})
const tunnel = (address: string, authority: string) => ({
  kind: 'tunnel',
  target: { address, expected: pod(), authority },
})
const plain = (port: number) => ({ kind: 'plain', address: A, port })
const refused = (code: string) => ({ kind: 'refused', code })

const cases: readonly [string, SingleEntry, number, Outbound, object][] = [
  ['a mesh pod is reached through its tunnel', mesh(), 8080, 'auto', tunnel(A, '10.244.0.1:8080')],
  ['a mesh pod over IPv6 as well', mesh([], V6), 8080, 'auto', tunnel(V6, '[fd00::1]:8080')],
  ['a mesh pod, when mesh is required', mesh(), 80, 'require', tunnel(A, '10.244.0.1:80')],
  ['a port that its capture skips is plaintext', mesh([9090]), 9090, 'auto', plain(9090)],
  [
    'the status port of its sidecar is plaintext: a scraper in the mesh reads it as any other does',
    mesh(),
    PORTS.status,
    'auto',
    plain(PORTS.status),
  ],
  [
    'a skipped port is refused when mesh is required',
    mesh([9090]),
    9090,
    'require',
    refused('PSTN_OUTBOUND_REQUIRED'),
  ],
  ['a pod without a sidecar is plaintext', { kind: 'plain', address: A }, 80, 'auto', plain(80)],
  [
    'a pod without a sidecar is refused when mesh is required',
    { kind: 'plain', address: A },
    80,
    'require',
    refused('PSTN_OUTBOUND_REQUIRED'),
  ],
  [
    'an address that nothing has is refused',
    { kind: 'unknown', address: A },
    80,
    'auto',
    refused('PSTN_ADDRESS_UNKNOWN'),
  ],
  [
    'an address that two pods claim is refused',
    { kind: 'ambiguous', address: A, uids: ['a', 'b'] },
    80,
    'auto',
    refused('PSTN_ADDRESS_AMBIGUOUS'),
  ],
]
for (const [name, entry, port, outbound, expected] of cases) {
  t.test(name, async t =>
    t.match(
      routeOf(entry, port, { outbound, declared: () => undefined, partner: () => undefined }),
      expected,
    ),
  )
}
