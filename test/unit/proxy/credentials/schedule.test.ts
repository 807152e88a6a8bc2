import t from 'tap'
import { planRenewal, untilDue, untilRetry } from '../../../../proxy/credentials/schedule.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const now = { wall: 1_800_000_000_000, monotonic: 5_000 }

const later = (ms: number, monotonicMs = ms) => ({
  wall: now.wall + ms,
  monotonic: now.monotonic + monotonicMs,
})

t.test('a renewal is due at 33 to 50 per cent of the time from receipt to notAfter', async t => {
  const cases = [
    ['24 h, earliest', DAY, 0, 0.33 * DAY],
    ['24 h, latest', DAY, 1, 0.5 * DAY],
    ['1 h, middle', HOUR, 0.5, 0.415 * HOUR],
    ['30 s backdated by 5 min still waits', 30 * SECOND, 0, 9.9 * SECOND],
    ['what is left of a certificate that came late', 2 * SECOND, 0, SECOND],
    ['a certificate that has expired does not spin', -HOUR, 1, SECOND],
  ] as const
  for (const [name, life, random, wait] of cases) {
    const due = planRenewal({ receivedAt: now.wall, notAfter: now.wall + life }, now, random)
    t.ok(Math.abs(due.wall - now.wall - wait) < 1, name)
    t.ok(Math.abs(due.monotonic - now.monotonic - wait) < 1, `${name}, on the monotonic clock`)
  }
})

t.test('a credential read back after a restart is renewed when it would have been', async t => {
  const due = planRenewal({ receivedAt: now.wall - 10 * HOUR, notAfter: now.wall + 14 * HOUR }, now, 1)
  t.equal(due.wall - now.wall, 2 * HOUR)
  t.equal(due.monotonic - now.monotonic, 2 * HOUR)
})

t.test('a receipt in the future (the clock was set back) counts as now', async t => {
  const due = planRenewal({ receivedAt: now.wall + DAY, notAfter: now.wall + 2 * HOUR }, now, 1)
  t.equal(due.wall - now.wall, HOUR)
})

t.test('a wait is looked at again every quarter of a minute, on whichever clock is ahead', async t => {
  const due = later(40 * DAY)
  t.equal(untilDue(due, now), 15 * SECOND, 'whatever is left')
  t.equal(untilDue(due, later(40 * DAY - SECOND)), SECOND)
  t.equal(untilDue(due, later(40 * DAY)), 0)
  t.equal(untilDue(due, later(41 * DAY, HOUR)), 0, 'the wall clock jumped forward: suspended')
  t.equal(untilDue(due, later(-DAY, 41 * DAY)), 0, 'the wall clock was set back')
})

t.test('failures back off, and fit several attempts into what is left', async t => {
  const cases = [
    ['first failure', 1, DAY, 1, SECOND],
    ['jitter takes at most half', 1, DAY, 0, 0.5 * SECOND],
    ['fourth failure', 4, DAY, 1, 8 * SECOND],
    ['capped at five minutes', 40, DAY, 1, 5 * MINUTE],
    ['capped at an eighth of the life left', 40, 8 * MINUTE, 1, MINUTE],
    ['never under a second of base', 40, SECOND, 1, SECOND],
    ['expired: at most half a minute', 40, 0, 1, 30 * SECOND],
    ['no certificate yet, first failure', 1, -1, 1, SECOND],
  ] as const
  for (const [name, failures, left, random, wait] of cases)
    t.equal(untilRetry(failures, left, random), wait, name)
})
