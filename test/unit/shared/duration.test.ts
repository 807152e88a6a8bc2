import t from 'tap'
import { duration } from '../../../shared/duration.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

for (const [ms, said] of [
  [0, '0 s'],
  [999, '0 s'],
  [59_999, '59 s'],
  [MINUTE_MS, '1 min'],
  [61_000, '1 min 1 s'],
  [HOUR_MS + 59_000, '1 h'],
  [11 * HOUR_MS + 58 * MINUTE_MS + 59_000, '11 h 58 min'],
  [DAY_MS + HOUR_MS, '1 d 1 h'],
  [1_825 * DAY_MS, '1825 d'],
  [-90_000, '1 min 30 s'],
] as const) {
  t.test(`${ms} ms are ${said}`, async t => t.equal(duration(ms), said))
}
