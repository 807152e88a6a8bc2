import t from 'tap'
import {
  ANSWERED,
  afterReport,
  type Health,
  IN,
  isProbeDue,
  probing,
  type Report,
  reportOf,
  UNDECIDED,
} from '../../../../proxy/resolve/endpoint-health.ts'
import { type Code, PosternError } from '../../../../shared/errors.ts'

const FAILED: Report = { kind: 'failed', code: 'PSTN_PEER_UNREACHABLE' }
const NOW = 1_000_000
const out = (failures: number, until: number): Health => ({ kind: 'out', failures, until })
const tested = (failures: number): Health => ({ kind: 'probing', failures })

const transitions: readonly [string, Health, Report, Health][] = [
  ['one that opens stays in', IN, ANSWERED, IN],
  ['one that cannot be opened is out for up to a second', IN, FAILED, out(1, NOW + 1_000)],
  ['what ended for a reason of our own says nothing', IN, UNDECIDED, IN],
  [
    'attempts from before it was out add nothing when they fail',
    out(1, NOW + 500),
    FAILED,
    out(1, NOW + 500),
  ],
  ['one from before it was out that opens brings it back', out(3, NOW + 500), ANSWERED, IN],
  ['a probe that opens brings it back', tested(5), ANSWERED, IN],
  ['a probe that fails doubles the time', tested(1), FAILED, out(2, NOW + 2_000)],
  ['again', tested(2), FAILED, out(3, NOW + 4_000)],
  ['but never beyond half a minute', tested(50), FAILED, out(51, NOW + 30_000)],
  ['a probe that we ended ourselves is made again by the next connection', tested(4), UNDECIDED, out(4, NOW)],
]
for (const [name, from, report, to] of transitions) {
  t.test(name, async t => t.same(afterReport(from, report, NOW, 1), to))
}

t.test('the time is spread over its upper half, so that callers do not come back together', async t => {
  t.same(afterReport(IN, FAILED, NOW, 0), out(1, NOW + 500))
  t.same(afterReport(tested(50), FAILED, NOW, 0), out(51, NOW + 15_000))
})

t.test('after success the next failure counts from the beginning', async t => {
  t.same(afterReport(afterReport(tested(6), ANSWERED, NOW, 1), FAILED, NOW, 1), out(1, NOW + 1_000))
})

t.test('a probe is due when the time is over, and only one at a time', async t => {
  t.equal(isProbeDue(out(1, NOW), NOW - 1), false)
  t.equal(isProbeDue(out(1, NOW), NOW), true)
  t.equal(isProbeDue(probing(out(1, NOW)), NOW), false)
  t.equal(isProbeDue(IN, NOW), false)
  t.same(probing(IN), IN)
})

const faults: readonly [string, Code, Report['kind']][] = [
  ['a peer that does not answer', 'PSTN_PEER_UNREACHABLE', 'failed'],
  ['a handshake that fails', 'PSTN_TLS_FAILED', 'failed'],
  ['an application that does not listen', 'PSTN_APP_UNREACHABLE', 'failed'],
  ['a destination without a sidecar that refuses', 'PSTN_DESTINATION_UNREACHABLE', 'failed'],
  ['an address that changed hands', 'PSTN_PEER_UNEXPECTED', 'failed'],
  ['a certificate that was not renewed', 'PSTN_PEER_EXPIRED', 'failed'],
  ['a peer that is shutting down', 'PSTN_DRAINING', 'failed'],
  ['a peer that has no policy yet', 'PSTN_NOT_READY', 'failed'],
  ['a peer at its limits', 'PSTN_LIMIT', 'failed'],
  ['a refusal by policy is no fault of the endpoint', 'PSTN_POLICY_DENIED', 'answered'],
  ['nor is a policy that it cannot apply', 'PSTN_POLICY_UNSUPPORTED', 'answered'],
  ['our own lack of a certificate', 'PSTN_CERT_EXPIRED', 'undecided'],
]
t.test('what a failed opening says about its endpoint follows from its code', async t => {
  for (const [name, code, kind] of faults)
    t.match(reportOf(new PosternError(code, '')), kind === 'failed' ? { kind, code } : { kind }, name)
})
