import t from 'tap'
import { isSpent, podUidOf, readableMs, sweepMs } from '../../../../injector/signer/cleanup.ts'
import { TrackedRequests } from '../../../../injector/signer/tracked-requests.ts'
import { CSR_SLOTS } from '../../../../shared/names.ts'

const FIVE_MINUTES = 300_000
const UID = '0b5bd8a1-7c0d-4a5e-9a4e-2f6f5f0d1c11'

const request = (types: string[], { name = `postern-${UID}-3`, uid = '1', certificate = '' } = {}) => ({
  metadata: { name, uid },
  spec: { request: '', signerName: 's' },
  status: { ...(certificate && { certificate }), conditions: types.map(type => ({ type, status: 'True' })) },
})
const issued = { certificate: 'AAAA' }

/** What a leader knows that has run for `ms`. */
function leader(startMs = 0) {
  let now = startMs
  const tracked = new TrackedRequests({ monotonic: () => now })
  return {
    tracked,
    pass: (ms: number) => {
      now += ms
    },
    spent: () => tracked.filter(one => isSpent(one, now, FIVE_MINUTES)).length,
  }
}

t.test('an issued, denied or failed request is spent after its time, and not before', async t => {
  for (const answered of [
    request(['Approved'], issued),
    request(['Denied']),
    request(['Approved', 'Failed']),
  ]) {
    const { tracked, pass, spent } = leader()
    tracked.learn(answered)
    pass(FIVE_MINUTES - 1)
    t.equal(spent(), 0)
    pass(1)
    t.equal(spent(), 1)
  }
})

t.test('it counts from when it was first seen answered on that very object', async t => {
  const { tracked, pass, spent } = leader()
  tracked.learn(request(['Approved']))
  pass(FIVE_MINUTES)
  tracked.learn(request(['Approved'], issued))
  t.equal(spent(), 0, 'not from its approval long before')
  pass(FIVE_MINUTES - 1)
  tracked.replace([request(['Approved'], issued)])
  t.equal(spent(), 0)
  pass(1)
  t.equal(spent(), 1, 'a new list does not put it off')
  tracked.learn(request(['Approved'], { ...issued, uid: '2' }))
  t.equal(spent(), 0, 'another object of the same name')
  tracked.replace([])
  t.equal(tracked.filter(() => true).length, 0)
})

t.test('a request that waits for its answer is kept, however old', async t => {
  const { tracked, pass, spent } = leader()
  tracked.replace([request([]), request(['Approved'], { name: `postern-${UID}-4` })])
  pass(10 * FIVE_MINUTES)
  t.equal(spent(), 0)
})

t.test('what was answered is not open, until a list says that it is: etcd was put back', async t => {
  const { tracked } = leader()
  const { name } = request([]).metadata
  tracked.learn(request([]))
  t.ok(tracked.open(name))
  tracked.answered(request([]))
  tracked.learn(request(['Approved']))
  t.notOk(tracked.open(name), 'a late event')
  tracked.replace([request(['Approved'], issued)])
  t.notOk(tracked.open(name))
  tracked.replace([request(['Approved'])])
  t.ok(tracked.open(name))
})

t.test('a request that a person named is left to Kubernetes’ cleaner', async t => {
  const { tracked, pass, spent } = leader()
  tracked.learn(request(['Denied'], { name: 'my-request' }))
  pass(10 * FIVE_MINUTES)
  t.equal(spent(), 0)
})

t.test('the pod that owns a name', async t => {
  t.equal(podUidOf(request([])), UID)
  for (const name of ['my-request', `postern-${UID}`, `postern-${UID}-8`]) {
    t.equal(podUidOf(request([], { name })), undefined)
  }
})

t.test('eight names last until the first is free again, however short a certificate lives', t => {
  for (let seconds = 10; seconds < 10_000; seconds++) {
    const after = readableMs(seconds)
    const shortest = 0.33 * seconds * 1000
    t.ok(CSR_SLOTS * shortest > after + sweepMs(after), `${seconds} s`)
    if (seconds > 100) seconds += 100
  }
  t.equal(readableMs(86_400), 60_000, 'as long as a sidecar asks for an answer')
  t.end()
})
