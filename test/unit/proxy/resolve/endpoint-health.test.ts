import t from 'tap'
import {
  ANSWERED,
  afterReport,
  type Finding,
  findingOf,
  type Health,
  IN,
  isProbeDue,
  probing,
  type Report,
  UNDECIDED,
} from '../../../../proxy/resolve/endpoint-health.ts'
import { RefusedByPeer } from '../../../../proxy/tunnel/refused-by-peer.ts'
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

type Fault = readonly [name: string, code: Code, kind: Finding['kind']]

const found: readonly Fault[] = [
  ['a peer that does not answer', 'PSTN_PEER_UNREACHABLE', 'failed'],
  ['a handshake that fails', 'PSTN_TLS_FAILED', 'failed'],
  ['a destination without a sidecar that refuses', 'PSTN_DESTINATION_UNREACHABLE', 'failed'],
  ['an address that changed hands', 'PSTN_PEER_UNEXPECTED', 'failed'],
  ['its certificate that was not renewed', 'PSTN_PEER_EXPIRED', 'failed'],
  ['its certificate of a root that we do not trust', 'PSTN_PEER_UNTRUSTED', 'failed'],
  ['an outside host without TLS', 'PSTN_OUTSIDE_TLS', 'failed'],
  ['an outside host that cannot be trusted', 'PSTN_OUTSIDE_UNTRUSTED', 'failed'],
  ['an outside host of another name', 'PSTN_OUTSIDE_NAME', 'failed'],
  ['an outside host that does not accept our certificate', 'PSTN_OUTSIDE_REFUSED', 'disputed'],
  ['our own certificate that has expired', 'PSTN_CERT_EXPIRED', 'undecided'],
  ['our own lack of a certificate', 'PSTN_NOT_READY', 'undecided'],
  ['our own end', 'PSTN_DRAINING', 'undecided'],
]
const told: readonly Fault[] = [
  ['its application does not listen', 'PSTN_APP_UNREACHABLE', 'failed'],
  ['it has the address no more', 'PSTN_DESTINATION_NOT_LOCAL', 'failed'],
  ['it is shutting down', 'PSTN_DRAINING', 'failed'],
  ['it has no policy yet', 'PSTN_NOT_READY', 'failed'],
  ['it is at its limits', 'PSTN_LIMIT', 'failed'],
  ['its policy forbids it: no fault of the endpoint', 'PSTN_POLICY_DENIED', 'answered'],
  ['its policy cannot be applied', 'PSTN_POLICY_UNSUPPORTED', 'answered'],
  ['our certificate has expired', 'PSTN_PEER_EXPIRED', 'disputed'],
  ['our certificate is not valid yet', 'PSTN_PEER_NOT_YET_VALID', 'disputed'],
  ['our certificate is of a root that it does not trust', 'PSTN_PEER_UNTRUSTED', 'disputed'],
  ['we showed no certificate', 'PSTN_PEER_NO_CERTIFICATE', 'disputed'],
  ['what only we can know of ourselves', 'PSTN_CERT_EXPIRED', 'undecided'],
]
const withCode = (kind: Finding['kind'], code: Code) =>
  kind === 'failed' || kind === 'disputed' ? { kind, code } : { kind }

t.test('what we met at an endpoint is its fault, what we lack ourselves is not', async t => {
  for (const [name, code, kind] of found)
    t.same(findingOf(new PosternError(code, '')), withCode(kind, code), name)
})

t.test('what an endpoint told is about itself, about its policy, or about us', async t => {
  for (const [name, code, kind] of told)
    t.same(findingOf(new RefusedByPeer(code, '')), withCode(kind, code), name)
})
