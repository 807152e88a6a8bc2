import t from 'tap'
import { jsonPatch } from '../../../../embedded/cluster/patch.ts'
import { diff, pointer } from '../../../../shared/injection/json-patch.ts'

type Json = Parameters<typeof jsonPatch>[0]

const cases: readonly { name: string; before: Json; after: Json; operations: unknown }[] = [
  { name: 'equal documents need nothing', before: { a: [1] }, after: { a: [1] }, operations: [] },
  {
    name: 'a missing parent is added whole',
    before: {},
    after: { a: { b: 1 } },
    operations: [{ op: 'add', path: '/a', value: { b: 1 } }],
  },
  {
    name: 'a null is replaced',
    before: { a: null },
    after: { a: [] },
    operations: [{ op: 'replace', path: '/a', value: [] }],
  },
  {
    name: 'slashes and tildes are escaped',
    before: { 'a/b~c': 1 },
    after: { 'a/b~c': 2 },
    operations: [{ op: 'replace', path: '/a~1b~0c', value: 2 }],
  },
  {
    name: 'elements put in front keep the indexes of those behind them right',
    before: { list: [{ name: 'x', v: 1 }] },
    after: { list: [{ name: 'n' }, { name: 'x', v: 2 }] },
    operations: [
      { op: 'replace', path: '/list/0/v', value: 2 },
      { op: 'add', path: '/list/0', value: { name: 'n' } },
    ],
  },
  {
    name: 'elements are appended behind those that stay',
    before: [{ name: 'x' }],
    after: [{ name: 'x' }, { name: 'y' }, { name: 'z' }],
    operations: [
      { op: 'add', path: '/1', value: { name: 'y' } },
      { op: 'add', path: '/2', value: { name: 'z' } },
    ],
  },
  {
    name: 'elements are removed from the last to the first',
    before: [1, 2, 3, 4],
    after: [1, 4],
    operations: [
      { op: 'remove', path: '/2' },
      { op: 'remove', path: '/1' },
    ],
  },
  {
    name: 'a kind of value that changes is replaced',
    before: { a: [1] },
    after: { a: { b: 1 } },
    operations: [{ op: 'replace', path: '/a', value: { b: 1 } }],
  },
  {
    name: 'a member is removed',
    before: { a: 1, b: 2 },
    after: { b: 2 },
    operations: [{ op: 'remove', path: '/a' }],
  },
  {
    name: 'names of Object.prototype are ordinary members',
    before: {},
    after: { valueOf: { toString: 1 } },
    operations: [{ op: 'add', path: '/valueOf', value: { toString: 1 } }],
  },
]

for (const { name, before, after, operations } of cases)
  t.test(name, async t => {
    const patch = diff(before, after)
    t.strictSame(patch, operations)
    t.strictSame(jsonPatch(before, JSON.parse(JSON.stringify(patch))), after)
  })

t.test('members that are undefined count as absent', async t => {
  t.strictSame(diff({ a: undefined }, {}), [])
  t.strictSame(diff({ a: 1 }, { a: undefined }), [{ op: 'remove', path: '/a' }])
})

t.test('the pointer of the whole document is empty', async t => {
  t.equal(pointer(), '')
  t.strictSame(diff(1, 2), [{ op: 'replace', path: '', value: 2 }])
})
