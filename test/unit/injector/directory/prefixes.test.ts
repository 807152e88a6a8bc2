import t from 'tap'
import { aggregate, createPrefixes } from '../../../../injector/directory/prefixes.ts'

const table: [string, string[], string[]][] = [
  ['nothing covers nothing', [], []],
  ['two halves become the whole', ['10.0.1.0/24', '10.0.0.0/24'], ['10.0.0.0/23']],
  ['merging goes on upwards', ['10.0.0.0/24', '10.0.1.0/24', '10.0.2.0/23'], ['10.0.0.0/22']],
  [
    'neighbours that are no halves of one block stay two',
    ['10.0.1.0/24', '10.0.2.0/24'],
    ['10.0.1.0/24', '10.0.2.0/24'],
  ],
  ['what another contains is dropped', ['10.0.0.0/8', '10.1.2.0/24', '10.0.0.0/8'], ['10.0.0.0/8']],
  ['host bits are cleared', ['10.0.0.9/24'], ['10.0.0.0/24']],
  ['everything', ['0.0.0.0/1', '128.0.0.0/1'], ['0.0.0.0/0']],
  [
    'IPv6 comes after IPv4 and in short form',
    ['fd00:0:0:1::/64', 'fd00::/64', '10.0.0.0/8'],
    ['10.0.0.0/8', 'fd00::/63'],
  ],
  ['IPv6 with an embedded IPv4 address', ['64:ff9b::10.0.0.0/104'], ['64:ff9b::a00:0/104']],
  ['single addresses', ['10.0.0.1/32', '::1/128'], ['10.0.0.1/32', '::1/128']],
  ['what is no CIDR is dropped', ['10.0.0.0', 'x/8', '10.0.0.0/33'], []],
]
for (const [name, given, expected] of table) {
  t.test(name, async t => {
    t.same(aggregate(given), expected)
  })
}

t.test('the network around an address is asked about as long as one address needs it', async t => {
  const prefixes = createPrefixes()
  t.ok(prefixes.count('10.0.0.1', 'add'))
  t.notOk(prefixes.count('10.0.0.2', 'add'), 'the second changes nothing')
  t.same(prefixes.asked(), ['10.0.0.0/24'])
  t.notOk(prefixes.owns('10.0.0.3'))
  t.notOk(prefixes.count('10.0.0.1', 'remove'))
  t.ok(prefixes.count('10.0.0.2', 'remove'))
  t.same(prefixes.asked(), [])
})

t.test('owned prefixes need no network around their addresses', async t => {
  const prefixes = createPrefixes()
  prefixes.count('10.0.0.1', 'add')
  t.ok(prefixes.own(['10.0.0.0/16'], ['10.0.0.1']))
  t.same(prefixes.asked(), ['10.0.0.0/16'])
  t.ok(prefixes.own([], ['10.0.0.1']), 'and when they are lost')
  t.same(prefixes.asked(), ['10.0.0.0/24'])
  t.notOk(prefixes.own([], ['10.0.0.1']), 'the same prefixes are no change')
})
