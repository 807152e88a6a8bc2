import t from 'tap'
import { createDirectory, UNKNOWN_WAIT_MS } from '../../../../proxy/resolve/directory.ts'
import { systemClock } from '../../../../shared/clock.ts'
import type { AddressEntry } from '../../../../shared/control/messages.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const A = '10.244.0.1'
const never = new AbortController().signal
const plain = (address: string): AddressEntry => ({ kind: 'plain', address })
const unknown = (address: string): AddressEntry => ({ kind: 'unknown', address })
const mesh = (address: string): AddressEntry => ({
  kind: 'mesh',
  address,
  pod: { uid: 'u', name: 'p', namespace: 'n', identity: 'spiffe://d/ns/n/sa/s', skipInboundPorts: [] },
})

/** Sleeps until told to wake, so that the order of events is the test's. */
function heldClock() {
  const clock = steppingClock()
  const { promise, resolve } = Promise.withResolvers<void>()
  return { clock: { ...clock, sleep: () => promise }, wake: resolve, advance: clock.advance }
}

t.test('the first use subscribes and waits for the answer', async t => {
  const { clock } = heldClock()
  const directory = createDirectory(clock)
  let changes = 0
  directory.onWanted(() => changes++)
  const found = directory.lookup(A, never)
  t.same(directory.wanted(), [A])
  t.equal(changes, 1)
  directory.receive([plain(A)])
  t.same(await found, plain(A))
  t.same(await directory.lookup(A, never), plain(A))
  t.equal(changes, 1, 'known addresses change nothing')
})

t.test('what was kept over a restart is used only where nothing newer is said in time', async t => {
  const { clock, wake, advance } = heldClock()
  const directory = createDirectory(clock, [plain(A), plain('10.244.0.2')])
  const moved = directory.lookup(A, never)
  const silent = directory.lookup('10.244.0.2', never)
  directory.receive([mesh(A)])
  t.same(await moved, mesh(A), 'another pod has the address now')
  advance(UNKNOWN_WAIT_MS)
  wake()
  t.same(await silent, plain('10.244.0.2'))
  t.same(directory.known(), [mesh(A), plain('10.244.0.2')], 'and stays kept')
})

t.test('a heartbeat says nothing: what is kept is not written anew', async t => {
  const directory = createDirectory(steppingClock())
  let received = 0
  directory.onReceived(() => received++)
  directory.receive([])
  t.equal(received, 0)
  directory.receive([plain(A)])
  t.equal(received, 1)
})

t.test('an address that is said to be unknown is waited for, then refused, then refused at once', async t => {
  const { clock, wake, advance } = heldClock()
  const directory = createDirectory(clock)
  const first = directory.lookup(A, never)
  directory.receive([unknown(A)])
  advance(UNKNOWN_WAIT_MS)
  wake()
  t.same(await first, unknown(A))
  t.same(await directory.lookup(A, never), unknown(A), 'without another wait')
  directory.receive([mesh(A)])
  t.same(await directory.lookup(A, never), mesh(A))
})

t.test('a pod that comes up within the wait is found', async t => {
  const { clock } = heldClock()
  const directory = createDirectory(clock)
  const found = directory.lookup(A, never)
  directory.receive([unknown(A)])
  directory.receive([mesh(A)])
  t.same(await found, mesh(A))
})

t.test('an address whose pod has gone is waited for again, since another may come', async t => {
  const clock = steppingClock()
  const directory = createDirectory(clock)
  directory.lookup(A, never).catch(() => undefined)
  directory.receive([mesh(A)])
  clock.advance(60_000)
  directory.receive([unknown(A)])
  const found = directory.lookup(A, never)
  directory.receive([plain(A)])
  t.same(await found, plain(A), 'a newer statement replaces mesh')
})

t.test('mesh stays mesh while nothing newer is said, however long the stream is lost', async t => {
  const clock = steppingClock()
  const directory = createDirectory(clock)
  directory.lookup(A, never).catch(() => undefined)
  directory.receive([mesh(A)])
  clock.advance(24 * 3_600_000)
  t.same(await directory.lookup(A, never), mesh(A))
})

t.test('what is not used for some minutes is given up', async t => {
  const clock = steppingClock()
  const directory = createDirectory(clock)
  for (const address of [A, '10.244.0.2']) {
    directory.lookup(address, never).catch(() => undefined)
    directory.receive([plain(address)])
  }
  clock.advance(4 * 60_000)
  await directory.lookup(A, never)
  clock.advance(2 * 60_000)
  let changes = 0
  directory.onWanted(() => changes++)
  directory.sweep()
  t.same(directory.wanted(), [A])
  t.equal(changes, 1)
})

t.test('a scan of the cluster costs a bounded number of addresses, the oldest go first', async t => {
  const { clock } = heldClock()
  let givenUp = 0
  const directory = createDirectory(clock, [], () => {
    givenUp += 1
  })
  const all = Array.from({ length: 12_000 }, (_, n) => `10.244.${n >> 8}.${n & 255}`)
  for (const address of all) directory.lookup(address, never).catch(() => undefined)
  t.equal(directory.wanted().length, 10_000)
  t.equal(directory.wanted().at(-1), all.at(-1))
  t.equal(givenUp, 2_000, 'each that went is counted')
})

t.test('answers to what was not asked are dropped', async t => {
  const directory = createDirectory(steppingClock())
  directory.receive([plain(A)])
  t.same(directory.wanted(), [])
})

t.test('a caller that hangs up stops waiting', async t => {
  const directory = createDirectory(systemClock)
  const hangUp = new AbortController()
  const found = directory.lookup(A, hangUp.signal)
  hangUp.abort(new Error('gone'))
  await t.rejects(found, /gone/)
})
