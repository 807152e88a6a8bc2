import t from 'tap'
import { headline } from '../../../../cli/certs/list.ts'
import { type Row, rank } from '../../../../cli/certs/ranking.ts'
import type { CaReport } from '../../../../shared/ca/validity.ts'
import type { SidecarReport, Unconnected } from '../../../../shared/control/sidecar-report.ts'

const NOW = Date.UTC(2030, 0, 1, 12)
const at = (hours: number): string => new Date(NOW + hours * 3_600_000).toISOString()
const DAY = 24

const ca: CaReport = {
  issuer: { fingerprint: 'a'.repeat(64), notBefore: at(-10 * DAY), notAfter: at(20 * DAY) },
  roots: [{ fingerprint: 'b'.repeat(64), notBefore: at(-400 * DAY), notAfter: at(1_400 * DAY) }],
}
const sidecar = (pod: string, leftHours: number, more: Partial<SidecarReport> = {}): SidecarReport => ({
  podUid: `uid-${pod}`,
  pod,
  namespace: 'shop',
  version: '1.0.0',
  replica: 'injector-0',
  roots: [],
  certificate: { serial: '0a', notAfter: at(leftHours), receivedAt: at(leftHours - 24) },
  connectedSince: at(-1),
  ...more,
})
const renewal = { failures: 4, code: 'PSTN_CSR_TIMEOUT', since: at(-2), retrySeconds: 60 }
const away = (pod: string, last?: SidecarReport): Unconnected => ({
  podUid: `uid-${pod}`,
  pod,
  namespace: 'shop',
  starting: false,
  ...(last && { last }),
})
const ranked = (reports: SidecarReport[], unconnected: Unconnected[] = [], authority = ca) =>
  rank({ reports, unconnected }, authority, NOW)
const shown = (rows: readonly Row[]) => rows.map(({ name, standing, danger }) => [name, standing, danger])

t.test('the nearest danger comes first, then what is silent, then the others by their end', async t => {
  const rows = ranked(
    [
      sidecar('fresh', 23),
      sidecar('failing', 14, { renewal }),
      sidecar('older', 13),
      sidecar('late', 5),
      sidecar('failing-sooner', 11, { renewal }),
    ],
    [
      away('lost'),
      { ...away('new'), starting: true },
      away('expired', sidecar('expired', -0.5, { renewal, endedAt: at(-0.6) })),
    ],
  )
  t.same(shown(rows), [
    ['shop/expired', 'expired', true],
    ['shop/failing-sooner', 'failing', true],
    ['shop/failing', 'failing', true],
    ['shop/late', 'late', true],
    ['shop/lost', 'silent', true],
    ['shop/new', 'starting', false],
    ['shop/older', 'good', false],
    ['shop/fresh', 'good', false],
    ['issuer', 'good', false],
    ['root', 'good', false],
  ])
})

t.test('of what is not connected one learns what was last heard', async t => {
  const [expired, silent] = ranked(
    [],
    [
      away('silent', sidecar('silent', 20, { endedAt: at(-1) })),
      away('expired', sidecar('expired', -0.5, { renewal, endedAt: at(-0.6) })),
    ],
  )
  t.match(expired, {
    notAfter: at(-0.5),
    id: '0a',
    note: `not connected for 36 min; PSTN_CSR_TIMEOUT, 4 failures since ${at(-2)}`,
  })
  t.match(silent, { standing: 'silent', notAfter: at(20), note: 'not connected for 1 h' })
})

t.test('a stream that was lost a moment ago is no danger', async t => {
  const [first] = ranked([], [away('web', sidecar('web', 20, { endedAt: at(-0.005) }))])
  t.match(first, { name: 'shop/web', standing: 'good', danger: false })
})

t.test(
  'an issuer that is not replaced in time is a danger, and a root that ends within three months',
  async t => {
    const old: CaReport = {
      issuer: { ...ca.issuer, notBefore: at(-23 * DAY), notAfter: at(7 * DAY) },
      roots: [
        { ...ca.roots[0], fingerprint: 'c'.repeat(64), notBefore: at(-1_700 * DAY), notAfter: at(89 * DAY) },
        { fingerprint: 'd'.repeat(64), notBefore: at(0), notAfter: at(1_825 * DAY) },
      ],
    }
    t.same(shown(ranked([], [], old)), [
      ['issuer', 'late', true],
      ['root', 'late', true],
      ['root', 'good', false],
    ])
    t.match(ranked([], [], { ...old, issuer: { ...old.issuer, notAfter: at(-1) } })[0], {
      standing: 'expired',
    })
  },
)

t.test('the first line names the nearest danger', async t => {
  t.equal(
    headline(ranked([sidecar('web', 11, { renewal }), sidecar('db', 20)]), NOW),
    `IN DANGER: 1 of 4. Nearest: shop/web, failing, expires in 11 h (PSTN_CSR_TIMEOUT, 4 failures since ${at(-2)})`,
  )
  t.equal(
    headline(ranked([], [away('web', sidecar('web', -2, { endedAt: at(-2) }))]), NOW),
    'IN DANGER: 1 of 3. Nearest: shop/web expired 2 h ago (not connected for 2 h)',
  )
  t.equal(
    headline(ranked([sidecar('web', 20)], [{ ...away('new'), starting: true }]), NOW),
    'nothing is in danger. The first of 4 to expire: shop/web, in 20 h',
  )
})

t.test('ten thousand are ranked in a moment', async t => {
  const many = Array.from({ length: 10_000 }, (_, n) => sidecar(`web-${n}`, 12 + (n % 12)))
  const started = performance.now()
  t.equal(ranked(many).length, 10_002)
  t.ok(performance.now() - started < 1_000)
})
