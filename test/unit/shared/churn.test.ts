import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { ChurnMap, ChurnSet } from '../../../shared/churn.ts'

const MEMORY = new URL('../../support/churn-memory.ts', import.meta.url).pathname

t.test('a set has those that came and have not left, in the order of their coming', async t => {
  const set = new ChurnSet<number>()
  const real = new Set<number>()
  let differences = 0
  for (let turn = 0; turn < 20_000; turn += 1) {
    const member = (turn * 7_919) % 613
    if (turn % 2 === 0) differences += set.delete(member) === real.delete(member) ? 0 : 1
    else {
      set.add(member)
      real.add(member)
    }
  }
  t.equal(differences, 0)
  t.same([...set], [...real])
  t.equal(set.size, real.size)
  t.equal(set.first(), [...real][0])
  t.ok([...real].every(member => set.has(member)))
})

t.test('a map has the last value of each key, in the order of their coming', async t => {
  const map = new ChurnMap<number, number>()
  const real = new Map<number, number>()
  let differences = 0
  for (let turn = 0; turn < 20_000; turn += 1) {
    const key = (turn * 7_919) % 613
    if (turn % 2 === 0) differences += map.delete(key) === real.delete(key) ? 0 : 1
    else {
      map.set(key, turn)
      real.set(key, turn)
    }
  }
  t.equal(differences, 0)
  t.same([...map], [...real])
  t.equal(map.size, real.size)
  t.same(map.first(), [...real][0])
  t.ok([...real].every(([key, value]) => map.has(key) && map.get(key) === value))
})

t.test('who goes while all are visited is not visited, however many go', async t => {
  const set = new ChurnSet<number>()
  for (let member = 0; member < 1_000; member += 1) set.add(member)
  const visited: number[] = []
  for (const member of set) {
    visited.push(member)
    set.add(member + 1_000)
    for (let gone = member + 1; gone < 1_000; gone += 1) if (gone !== 999) set.delete(gone)
  }
  t.same(visited, [0, 999])
})

t.test('who came and went is not kept until the next full collection, as V8’s own would', async t => {
  const promoted = async (collection: string) => {
    const args = ['--expose-gc', '--disable-warning=ExperimentalWarning', MEMORY, collection]
    return Number((await promisify(execFile)(process.execPath, args)).stdout)
  }
  const [set, map, control] = await Promise.all(['ChurnSet', 'ChurnMap', 'Set'].map(promoted))
  t.ok(Number(set) < 4 && Number(map) < 4, `${set} and ${map} MiB`)
  t.ok(Number(control) > 8, `${control} MiB are what the test would see`)
})
