import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import t from 'tap'
import { createLineQuota } from '../../../shared/line-quota.ts'

/** A quota whose summaries are read as objects. */
function quotaOf(limits: Partial<Parameters<typeof createLineQuota>[1]> = {}) {
  const written: Record<string, unknown>[] = []
  const log = pino(
    { base: null, timestamp: false },
    { write: (line: string) => written.push(JSON.parse(line)) },
  )
  const quota = createLineQuota(log, { lines: 3, intervalMs: 50, kinds: 10, ...limits })
  return { quota, written }
}

t.test('the first lines of a kind are written, the others counted in one', async t => {
  const { quota, written } = quotaOf()
  const flood = { code: 'PSTN_TLS_FAILED', address: '10.0.0.1' } as const
  t.same(
    Array.from({ length: 6 }, () => quota(flood)),
    [true, true, true, false, false, false],
  )
  t.equal(quota({ ...flood, address: '10.0.0.2' }), true, 'another kind is none the worse')
  t.same(written, [])
  await delay(100)
  t.match(written, [{ msg: 'lines suppressed', ...flood, suppressed: 3 }])
  t.equal(written.length, 1)
  t.equal(quota(flood), true, 'the next interval begins anew')
})

t.test('where there are too many kinds, the first line of each code is still written', async t => {
  const { quota } = quotaOf({ kinds: 2, lines: 1 })
  const of = (code: 'PSTN_LIMIT' | 'PSTN_TLS_FAILED', n: number) => quota({ code, address: `10.0.0.${n}` })
  t.same(
    [1, 2, 3, 4, 5].map(n => of('PSTN_LIMIT', n)),
    [true, true, true, false, false],
  )
  t.same(
    [6, 7].map(n => of('PSTN_TLS_FAILED', n)),
    [true, false],
  )
})
