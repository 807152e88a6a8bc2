import t from 'tap'
import { decodeRevoked, isSerial, parseSerial, revocationCheck } from '../../../shared/revocation.ts'

const CART = 'spiffe://cluster.local/ns/shop/sa/cart'

const serials: readonly (readonly [written: string, serial: string | undefined])[] = [
  ['4f0a', '4f0a'],
  ['4F:0A', '4f0a'],
  ['0x4F0A', '4f0a'],
  ['00:8F:0A', '8f0a'],
  ['f0a', '0f0a'],
  ['0', '00'],
  ['000', '00'],
  ['ab'.repeat(20), 'ab'.repeat(20)],
  ['ab'.repeat(21), undefined],
  ['', undefined],
  ['4g', undefined],
  ['4f 0a', undefined],
  ['-4f', undefined],
  ['serial=4f', undefined],
]
for (const [written, serial] of serials) {
  t.test(`the serial ${JSON.stringify(written)} is ${serial ?? 'none'}`, async t => {
    t.equal(parseSerial(written), serial)
    if (serial) t.ok(isSerial(serial))
  })
}

t.test('a serial has one form alone', async t => {
  for (const other of ['4F0A', '004f', '4f0', '', '4f:0a', 'ab'.repeat(21)]) t.notOk(isSerial(other), other)
})

t.test(
  'a bearer is revoked by its certificate, its identity or its pod, and by nothing like them',
  async t => {
    const check = revocationCheck({ serials: ['4f0a'], identities: [CART], pods: ['uid-1'] })
    const honest = { serial: '0b', identity: 'spiffe://cluster.local/ns/shop/sa/web', podUid: 'uid-2' }
    t.equal(check(honest), undefined)
    t.match(check({ ...honest, serial: '4f0a' }), 'certificate 4f0a is revoked')
    t.match(check({ ...honest, identity: CART }), `identity ${CART} is revoked`)
    t.match(check({ ...honest, podUid: 'uid-1' }), 'pod uid-1 is revoked')
    t.equal(check({ ...honest, identity: `${CART}s` }), undefined)
    t.equal(check({ serial: '0b', identity: honest.identity }), undefined, 'a certificate that names no pod')
    t.equal(check({}), undefined)
  },
)

t.test('what is pushed is read strictly', async t => {
  const good = { serials: ['4f0a'], identities: [CART], pods: ['uid-1'] }
  t.same(decodeRevoked(good, 'revoked'), good)
  for (const bad of [
    { ...good, serials: ['4F0A'] },
    { ...good, serials: ['004f'] },
    { ...good, identities: [''] },
    { ...good, pods: [1] },
    { ...good, more: [] },
    { serials: [], identities: [] },
    [],
    null,
  ]) {
    t.throws(() => decodeRevoked(bad, 'revoked'), { code: 'PSTN_CONFIG_INVALID' })
  }
})

t.test('10,000 serials are asked in no time, and take little', async t => {
  const many = Array.from({ length: 10_000 }, (_, index) =>
    (index + 0x1000_0000).toString(16).padStart(32, '4f'),
  )
  const started = performance.now()
  const check = revocationCheck({ serials: many, identities: [], pods: [] })
  const built = performance.now() - started
  for (let index = 0; index < 100_000; index += 1) check({ serial: many[index % 10_000] ?? '' })
  const asked = performance.now() - started - built
  t.comment(`built in ${built.toFixed(1)} ms, ${((asked / 100_000) * 1000).toFixed(2)} µs each`)
  t.ok(built < 1_000)
})
