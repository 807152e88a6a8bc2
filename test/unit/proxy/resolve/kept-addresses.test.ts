import t, { type Test } from 'tap'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { createDirectory } from '../../../../proxy/resolve/directory.ts'
import { keepAddresses, lastUsed, readAddresses } from '../../../../proxy/resolve/kept-addresses.ts'
import type { AddressEntry } from '../../../../shared/control/messages.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const never = new AbortController().signal
const [A, B, C] = ['10.244.0.1', '10.244.0.2', '10.244.0.3']
const plain = (address: string): AddressEntry => ({ kind: 'plain', address })

function volumeOf(t: Test) {
  return openStateVolume(t.testdir(), error => t.fail(error.message))
}

async function keeping(t: Test) {
  const volume = volumeOf(t)
  const clock = steppingClock()
  const directory = createDirectory(clock)
  const stopping = new AbortController()
  let limits = 0
  const onLimit = () => {
    limits += 1
  }
  const running = keepAddresses({ directory, volume, clock, onLimit }, stopping.signal)
  t.teardown(async () => {
    stopping.abort()
    await running
  })
  const learn = (...entries: AddressEntry[]) => {
    for (const { address } of entries) directory.lookup(address, stopping.signal).catch(() => undefined)
    directory.receive(entries)
  }
  return { volume, clock, directory, learn, limits: () => limits }
}

async function until(test: () => Promise<boolean>): Promise<void> {
  while (!(await test())) await new Promise(resolve => setImmediate(resolve))
}

t.test('what is known survives a restart, and is subscribed to again', async t => {
  const { volume, learn } = await keeping(t)
  learn(plain(A), plain(B))
  await until(async () => (await readAddresses(volume)).length === 2)
  const restarted = createDirectory(steppingClock(), await readAddresses(volume))
  t.same(restarted.wanted(), [A, B])
  t.same(await restarted.lookup(B, never), plain(B))
})

t.test('what comes later is kept too, and what is unknown is not', async t => {
  const { volume, learn } = await keeping(t)
  learn(plain(A))
  await until(async () => (await readAddresses(volume)).length === 1)
  learn({ kind: 'unknown', address: B }, plain(C))
  await until(async () => (await readAddresses(volume)).length === 2)
  t.same(await readAddresses(volume), [plain(A), plain(C)])
})

t.test('what does not fit is counted once at each writing', async t => {
  const { volume, learn, limits } = await keeping(t)
  learn(plain(A))
  await until(async () => (await readAddresses(volume)).length === 1)
  t.equal(limits(), 0)
  const claims = (n: number): AddressEntry => ({
    kind: 'ambiguous',
    address: `10.245.${n >> 8}.${n & 255}`,
    uids: ['1', '2'].map(digit => digit.repeat(200)),
  })
  const all = Array.from({ length: 3_000 }, (_, n) => claims(n))
  learn(...all)
  await until(async () => (await readAddresses(volume)).length > 1)
  t.same((await readAddresses(volume)).at(-1), all.at(-1))
  t.equal(limits(), 1)
})

t.test('a newer statement replaces what was kept', async t => {
  const directory = createDirectory(steppingClock(), [plain(A)])
  const ambiguous: AddressEntry = { kind: 'ambiguous', address: A, uids: ['1', '2'] }
  directory.receive([ambiguous])
  t.same(await directory.lookup(A, never), ambiguous)
})

t.test('a damaged copy counts as none', async t => {
  const volume = volumeOf(t)
  t.same(await readAddresses(volume), [])
  for (const damage of [null, 'x', { kind: 'addresses', entries: [{ kind: 'plain', address: 'x' }] }]) {
    await volume.write('addresses.json', damage)
    t.same(await readAddresses(volume), [])
  }
})

t.test('the most recently used are kept where not all fit', async t => {
  const entries = [A, B, C].map(plain)
  const each = JSON.stringify(plain(A)).length + 1
  t.same(lastUsed(entries, 3 * each), entries)
  t.same(lastUsed(entries, 3 * each - 1), [B, C].map(plain))
  t.same(lastUsed(entries, 0), [])
})
