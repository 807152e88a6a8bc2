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

t.test('bytes are counted and connections are told of while they live', async t => {
  const { registry, observer: observe } = observer()
  const counted = (labels: string) => {
    const samples = registry.render().split('\n')
    const sampleOf = (name: string) =>
      samples
        .find(line => line.startsWith(`${name}{${labels}}`))
        ?.split(' ')
        .at(-1)
    return {
      open: sampleOf('postern_connections_open'),
      received: sampleOf('postern_bytes_received_total'),
      sent: sampleOf('postern_bytes_sent_total'),
    }
  }
  const inbound = observe.start('inbound', { address: '10.0.0.1' }, 'tunnel')
  const outbound = observe.start('outbound', { address: '10.0.0.2' })
  outbound.via = 'plaintext'
  for (const record of [inbound, outbound]) observe.opened(record)
  const [into, out] = ['direction="inbound",via="tunnel"', 'direction="outbound",via="plaintext"']
  t.same(counted(into), { open: '1', received: '0', sent: '0' })
  Object.assign(inbound.traffic, { aToB: 10, bToA: 200 })
  Object.assign(outbound.traffic, { aToB: 3, bToA: 4 })
  t.same(counted(into), { open: '1', received: '10', sent: '200' })
  t.same(counted(out), { open: '1', received: '4', sent: '3' })
  inbound.traffic.aToB = 11
  observe.closed(inbound, 'ended', undefined)
  t.same(counted(into), { open: '0', received: '11', sent: '200' })
  t.same(counted(into), { open: '0', received: '11', sent: '200' })
  t.same(counted(out), { open: '1', received: '4', sent: '3' })
})
