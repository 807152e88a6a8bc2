import { pino } from 'pino'
import t from 'tap'
import { createObserver } from '../../../../proxy/observe/access-log.ts'
import { createProxyMetrics } from '../../../../proxy/observe/metrics.ts'
import { systemClock } from '../../../../shared/clock.ts'
import type { Code } from '../../../../shared/errors.ts'
import { createRegistry } from '../../../../shared/metrics.ts'

function observer() {
  const lines: { msg: string; code: string; destination?: { port: number } }[] = []
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line)) })
  const registry = createRegistry()
  return { lines, registry, observer: createObserver(log, createProxyMetrics(registry), systemClock) }
}

t.test(
  'a flood of refusals writes a few lines, metrics count them all, and no other kind is lost',
  async t => {
    const { lines, registry, observer: observe } = observer()
    const refuse = (code: Code, address = '10.0.0.1') =>
      observe.refused(observe.start('inbound', { address }), { code, reason: 'r' })
    for (let count = 0; count < 1_000; count += 1) refuse('PSTN_TLS_FAILED')
    refuse('PSTN_POLICY_DENIED')
    refuse('PSTN_TLS_FAILED', '10.0.0.2')
    t.match(
      registry.render(),
      'postern_connections_refused_total{direction="inbound",code="PSTN_TLS_FAILED"} 1001',
    )
    for (const msg of ['decision', 'connection']) {
      const codes = lines.filter(line => line.msg === msg).map(({ code }) => code)
      t.equal(codes.length, 22)
      t.equal(codes.at(-2), 'PSTN_POLICY_DENIED')
    }
  },
)

t.test('of what the application dials, each destination that is refused is told', async t => {
  const { lines, observer: observe } = observer()
  for (let port = 1; port <= 100; port += 1) {
    const record = observe.start('outbound', { address: '10.0.0.1' })
    record.destination = { address: '10.9.9.9', port }
    observe.refused(record, { code: 'PSTN_ADDRESS_UNKNOWN', reason: 'r' })
  }
  t.equal(lines.filter(({ msg }) => msg === 'decision').length, 100)
})
