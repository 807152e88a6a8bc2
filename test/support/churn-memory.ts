// Run with --expose-gc and the name of a collection: prints how many MiB were promoted while members came and went, of
// which few were there at a time. A Set of V8's own is the control.
import { getHeapSpaceStatistics } from 'node:v8'
import { ChurnMap, ChurnSet } from '../../shared/churn.ts'

const KIB = 1024
const AT_A_TIME = 32
const MEMBERS = 100_000

type Member = { readonly weight: readonly number[] }
type Collection = { add(member: Member): unknown; delete(member: Member): unknown }

function collectionOf(name: string | undefined): Collection {
  if (name === 'Set') return new Set<Member>()
  if (name === 'ChurnSet') return new ChurnSet<Member>()
  const map = new ChurnMap<Member, Member>()
  return { add: member => map.set(member, member), delete: member => map.delete(member) }
}

const collection = collectionOf(process.argv[2])
const present: Member[] = []
const come = (at: number) => {
  const member = { weight: new Array<number>(128).fill(at) }
  collection.add(member)
  present[at] = member
}
for (let at = 0; at < AT_A_TIME; at += 1) come(at)
// What is there is old, as in a process that has been up for a while.
for (let times = 0; times < 3; times += 1) globalThis.gc?.()

const oldBytes = () =>
  getHeapSpaceStatistics().find(space => space.space_name === 'old_space')?.space_used_size ?? 0
const before = oldBytes()
let most = 0
for (let count = 0; count < MEMBERS; count += 1) {
  const at = count % AT_A_TIME
  const leaver = present[at]
  come(at)
  if (leaver) collection.delete(leaver)
  if (count % 1_000 === 0) most = Math.max(most, oldBytes() - before)
}
console.log(most / KIB / KIB)
