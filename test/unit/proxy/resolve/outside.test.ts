import t from 'tap'
import { createOutside } from '../../../../proxy/resolve/outside.ts'
import { type Outbound, routeOf, withoutMesh } from '../../../../proxy/resolve/route.ts'
import type { State } from '../../../../shared/control/messages.ts'
import { live } from '../../../../shared/live.ts'
import type { OutsideHost } from '../../../../shared/policy/outside-host.ts'

const PLACE = { address: '203.0.113.7', port: 443 }
const ELSEWHERE = { address: '198.51.100.1', port: 443 }
const SERVICE = { address: '10.96.0.9', port: 80 }

const host = (name: string, rest: Partial<OutsideHost> = {}): OutsideHost => ({
  name: `shop/${name}`,
  host: 'api.partner.example',
  addresses: ['203.0.113.0/28'],
  ports: [443],
  tls: { mode: 'SIMPLE', roots: [] },
  features: [],
  ...rest,
})
const stateWith = (...outside: readonly OutsideHost[]): State => ({
  kind: 'state',
  version: 1,
  policy: { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow' },
  trust: [],
  prefixes: ['10.0.0.0/8'],
  // As it comes from the wire: equal, and never the same.
  outside: structuredClone(outside),
})
const given = (outbound: Outbound, ...hosts: readonly OutsideHost[]) => {
  const state = live<State | undefined>(stateWith(...hosts))
  return { state, ...createOutside(state, outbound, live({ placeOf: () => undefined })) }
}

t.test('what is declared is dialled with TLS where plaintext would be, in every mode', async t => {
  for (const outbound of ['auto', 'require'] as const) {
    const { beyond } = given(outbound, host('partner'))
    t.match(withoutMesh(PLACE, beyond(PLACE)), {
      kind: 'originate',
      ...PLACE,
      host: { name: 'shop/partner' },
    })
    t.match(withoutMesh({ ...PLACE, port: 80 }, beyond({ ...PLACE, port: 80 })), {
      kind: outbound === 'auto' ? 'plain' : 'refused',
    })
  }
})

t.test('it is found by what was dialled and by what that leads to', async t => {
  const byService = given('auto', host('service', { addresses: ['10.96.0.9/32'], ports: [80] }))
  t.match(withoutMesh(PLACE, byService.beyond(SERVICE)), { kind: 'originate', ...PLACE })
  const byEndpoint = given('auto', host('endpoint'))
  t.match(withoutMesh(PLACE, byEndpoint.beyond(SERVICE)), { kind: 'originate', ...PLACE })
  t.match(withoutMesh(ELSEWHERE, byEndpoint.beyond(SERVICE)), { kind: 'plain' })
})

t.test('the mesh goes first', async t => {
  const { beyond } = given('auto', host('partner'))
  const identity = 'spiffe://cluster.local/ns/shop/sa/web'
  const pod = { uid: 'u', name: 'web', namespace: 'shop', identity, skipInboundPorts: [] }
  const { address, port } = PLACE
  t.match(routeOf({ kind: 'mesh', address, pod }, port, beyond(PLACE)), { kind: 'tunnel' })
})

t.test('two that declare one place, or one that is not understood, refuse it', async t => {
  const two = given('auto', host('a'), host('b', { addresses: ['203.0.113.7/32'] }))
  t.match(withoutMesh(PLACE, two.beyond(PLACE)), {
    kind: 'refused',
    code: 'PSTN_OUTSIDE_AMBIGUOUS',
    reason: 'shop/a, shop/b all declare 203.0.113.7:443',
  })
  const newer = given('auto', host('a'), host('b', { features: ['later'] }))
  t.match(withoutMesh(PLACE, newer.beyond(PLACE)), {
    kind: 'refused',
    code: 'PSTN_POLICY_UNSUPPORTED',
    reason: /^shop\/b needs later/,
  })
})

t.test('a connection ends when it would be made in another way now, and only then', async t => {
  const partner = host('partner')
  const { state, hold } = given('auto', partner)
  const originated = hold(PLACE, PLACE, partner)
  const plaintext = hold(ELSEWHERE, ELSEWHERE, undefined)
  const gone = hold(PLACE, PLACE, partner)
  gone[Symbol.dispose]()
  state.set(stateWith(partner))
  state.set(stateWith(partner, host('other', { addresses: ['192.0.2.1/32'] })))
  t.same(
    [originated, plaintext, gone].map(({ signal }) => signal.aborted),
    [false, false, false],
  )
  state.set(stateWith(partner, host('elsewhere', { addresses: ['198.51.100.0/24'] })))
  t.match(plaintext.signal, { aborted: true, reason: { code: 'PSTN_OUTSIDE_CHANGED' } })
  t.equal(originated.signal.aborted, false)
  state.set(stateWith(host('partner', { tls: { mode: 'MUTUAL', roots: [] } })))
  t.match(originated.signal, { aborted: true, reason: { code: 'PSTN_OUTSIDE_CHANGED' } })
  t.equal(gone.signal.aborted, false, 'nobody is interested any more')
})

t.test('what changed while it was being made ends it at once', async t => {
  const { state, hold } = given('auto', host('partner'))
  state.set(stateWith())
  t.equal(hold(PLACE, PLACE, host('partner')).signal.aborted, true)
  t.equal(hold(PLACE, PLACE, undefined).signal.aborted, false)
})
