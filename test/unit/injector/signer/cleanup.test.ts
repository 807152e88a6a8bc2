import t from 'tap'
import { isSpent, podUidOf } from '../../../../injector/signer/cleanup.ts'
import { TrackedRequests } from '../../../../injector/signer/tracked-requests.ts'

const NOW = Date.parse('2026-11-21T12:00:00Z')
const FIVE_MINUTES = 300_000
const UID = '0b5bd8a1-7c0d-4a5e-9a4e-2f6f5f0d1c11'

type Answer = { type: string; ago: number }

/** As the API server sends it: times are strings. */
const request = (answers: Answer[], { name = `postern-${UID}-3`, certificate = '' } = {}) => ({
  metadata: { name },
  spec: { request: '', signerName: 's' },
  status: {
    ...(certificate && { certificate }),
    conditions: answers.map(({ type, ago }) => ({
      type,
      status: 'True',
      lastUpdateTime: new Date(NOW - ago) as Date,
    })),
  },
})
/** The certificate was seen long ago if not said otherwise. */
const spent = (object: ReturnType<typeof request>, issuedAt?: number) =>
  isSpent({ object: JSON.parse(JSON.stringify(object)), issuedAt }, NOW, FIVE_MINUTES)

const issued = { certificate: 'AAAA' }
t.test('an issued, denied or failed request is spent after its time', async t => {
  t.equal(spent(request([{ type: 'Approved', ago: FIVE_MINUTES }], issued)), true)
  t.equal(spent(request([{ type: 'Denied', ago: FIVE_MINUTES }])), true)
  t.equal(
    spent(
      request([
        { type: 'Approved', ago: FIVE_MINUTES },
        { type: 'Failed', ago: FIVE_MINUTES },
      ]),
    ),
    true,
  )
})

t.test('not before, counted from the last answer', async t => {
  t.equal(spent(request([{ type: 'Approved', ago: FIVE_MINUTES - 1 }], issued)), false)
  t.equal(
    spent(
      request([
        { type: 'Approved', ago: FIVE_MINUTES },
        { type: 'Failed', ago: 1 },
      ]),
    ),
    false,
  )
})

t.test('a certificate counts from when it was there, not from an approval long before', async t => {
  const late = request([{ type: 'Approved', ago: 10 * FIVE_MINUTES }], issued)
  t.equal(spent(late, NOW - FIVE_MINUTES + 1), false)
  t.equal(spent(late, NOW - FIVE_MINUTES), true)
})

t.test('a certificate is there from when it was first seen on that very object', async t => {
  let now = NOW
  const tracked = new TrackedRequests({ now: () => now })
  const object = (uid: string, status: object = {}) => ({
    ...request([]),
    metadata: { name: 'a', uid },
    status,
  })
  const issuedAt = () => {
    let seen: number | undefined
    tracked.filter(one => {
      seen = one.issuedAt
      return false
    })
    return seen
  }
  tracked.learn(object('1'))
  t.equal(issuedAt(), undefined)
  now += 1_000
  tracked.learn(object('1', issued))
  t.equal(issuedAt(), now)
  const first = now
  now += 1_000
  tracked.replace([object('1', issued)])
  tracked.learn(object('1', issued))
  t.equal(issuedAt(), first)
  tracked.learn(object('2', issued))
  t.equal(issuedAt(), now, 'another object of the same name')
  tracked.replace([])
  t.same(
    tracked.filter(() => true),
    [],
  )
})

t.test('a request that waits for its answer is kept, however old', async t => {
  t.equal(spent(request([])), false)
  t.equal(spent(request([{ type: 'Approved', ago: 10 * FIVE_MINUTES }])), false)
})

t.test('a request that a person named is left to Kubernetes’ cleaner', async t => {
  t.equal(spent(request([{ type: 'Denied', ago: FIVE_MINUTES }], { name: 'my-request' })), false)
})

t.test('the pod that owns a name', async t => {
  t.equal(podUidOf(request([])), UID)
  for (const name of ['my-request', `postern-${UID}`, `postern-${UID}-8`]) {
    t.equal(podUidOf(request([], { name })), undefined)
  }
})
