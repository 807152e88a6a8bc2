import t from 'tap'
import type { IssuanceEvent } from '../../../../proxy/credentials/csr-source.ts'
import { createRenewalRecord } from '../../../../proxy/credentials/renewal-record.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { testAuthority } from '../../../support/certificates.ts'

const authority = await testAuthority('cluster.local')
const credential = (
  await authority.issue({ identity: 'spiffe://cluster.local/ns/shop/sa/cart' })
).credential()
const START = Date.parse('2030-01-01T00:00:00.000Z')
const HOUR_MS = 3_600_000

const issued: IssuanceEvent = { kind: 'issued', credential, name: 'postern-x-0', tookMs: 5 }
const failed = (failures: number, retryMs: number): IssuanceEvent => ({
  kind: 'failed',
  error: new PosternError('PSTN_CSR_TIMEOUT', 'not approved'),
  failures,
  retryMs,
  lifeLeftMs: HOUR_MS,
})

/** Each event an hour after the one before. */
function told(...events: IssuanceEvent[]) {
  let now = START
  const record = createRenewalRecord({ now: () => now })
  for (const event of events) {
    record.observe(event)
    now += HOUR_MS
  }
  return record.get()
}

t.test('nothing is known at first', async t => t.same(told(), {}))

t.test('a certificate is received when it was issued or taken', async t => {
  const received = { certificateReceivedAt: '2030-01-01T00:00:00.000Z' }
  t.same(told(issued), received)
  t.same(told({ kind: 'taken', credential, from: 'files' }), received)
})

t.test('one that was restored counts from when the former process received it', async t => {
  const receivedAt = START - HOUR_MS
  t.same(told({ kind: 'restored', credential, receivedAt }), {
    certificateReceivedAt: '2029-12-31T23:00:00.000Z',
  })
})

t.test('failures keep the time of the first and say the code and count of the latest', async t => {
  t.same(told(issued, failed(1, 1_000), failed(2, 2_600)), {
    certificateReceivedAt: '2030-01-01T00:00:00.000Z',
    renewal: { failures: 2, code: 'PSTN_CSR_TIMEOUT', since: '2030-01-01T01:00:00.000Z', retrySeconds: 3 },
  })
})

t.test('a certificate ends them, and so does a source that is all right again', async t => {
  t.same(told(failed(1, 1_000), issued), { certificateReceivedAt: '2030-01-01T01:00:00.000Z' })
  t.same(told(issued, failed(1, 1_000), { kind: 'recovered', credential }), {
    certificateReceivedAt: '2030-01-01T00:00:00.000Z',
  })
})

t.test('an identity that was taken back is a failure without a certificate', async t => {
  const error = new PosternError('PSTN_CSR_DENIED', 'no entry')
  t.same(told(issued, { kind: 'withdrawn', error }), {
    renewal: { failures: 1, code: 'PSTN_CSR_DENIED', since: '2030-01-01T01:00:00.000Z', retrySeconds: 0 },
  })
})

t.test('a clock that is off changes nothing', async t => {
  const error = new PosternError('PSTN_CLOCK_SKEW', 'six minutes')
  t.same(told(issued, { kind: 'skewed', error }), told(issued))
})
