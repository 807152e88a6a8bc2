import t from 'tap'
import { parseStrictObject } from '../../../../shared/jwt/strict-json.ts'

t.test('an object is read as JSON.parse reads it', async t => {
  for (const text of [
    '{}',
    '{"a":{"b":[1,"x:{",null]},"c":"\\"}"}',
    ' {"a":[{"a":1},{"a":2}]} ',
    '{"__proto__":1}',
  ])
    t.strictSame(JSON.stringify(parseStrictObject(text)), JSON.stringify(JSON.parse(text)), text)
})

t.test('a name that is written twice in one object is refused, in whatever spelling and depth', async t => {
  for (const text of [
    '{"sub":"a","sub":"b"}',
    '{"sub":"a","s\\u0075b":"b"}',
    '{"a":[{"x":{"y":1,"y":1}}]}',
    '{"a":{"b":1}, "a" :2}',
    '{"__proto__":1,"__proto__":2}',
  ])
    t.throws(() => parseStrictObject(text), /twice/, text)
})

t.test('what is no object is refused', async t => {
  for (const text of [
    '',
    '[]',
    '"a"',
    'null',
    '{"a":1',
    '{"a" "b"}',
    '{"a":1}}',
    "{'a':1}",
    '{"a":"b\n"}',
    '{"a\\x":1}',
  ])
    t.throws(() => parseStrictObject(text), text)
})

t.test('nesting is bounded before it is parsed', async t => {
  t.throws(() => parseStrictObject(`{"a":${'['.repeat(1000)}${']'.repeat(1000)}}`), /deeper/)
  t.ok(parseStrictObject(`{"a":${'['.repeat(15)}${']'.repeat(15)}}`), 'control')
})

t.test('quotes without an end cost their length, not its square', async t => {
  const startedAt = performance.now()
  t.throws(() => parseStrictObject(`{"a":"${'\\"'.repeat(200_000)}`))
  t.ok(performance.now() - startedAt < 1000)
})
