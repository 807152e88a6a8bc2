import { BlockList } from 'node:net'
import t from 'tap'
import {
  authorityOf,
  type Cidr,
  canonicalAddress,
  cidrsContain,
  parseAuthority,
  parseCidr,
} from '../../../shared/addresses.ts'

t.test('every form of an address has one canonical text', async t => {
  const cases = [
    ['10.1.2.3', '10.1.2.3'],
    ['::1', '::1'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['2001:DB8::0001', '2001:db8::1'],
    ['fd00:0:0:1:0:0:0:1', 'fd00:0:0:1::1'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::ffff:10.1.2.3%eth0', '10.1.2.3'],
    ['::FFFF:0a01:0203', '10.1.2.3'],
    ['fe80::1%eth0', 'fe80::1'],
  ] as const
  for (const [text, canonical] of cases) t.equal(canonicalAddress(text), canonical, text)
})

t.test('what is no IP address has no canonical text', async t => {
  const cases = [
    '',
    '10.1.2',
    '010.1.2.3',
    '10.1.2.3 ',
    '0x7f.1',
    '1::2::3',
    'localhost',
    '[::1]',
    '10.1.2.3\n',
  ]
  for (const text of cases) t.equal(canonicalAddress(text), undefined, JSON.stringify(text))
})

t.test('an authority is read back as it was written', async t => {
  for (const [address, port] of [
    ['10.1.2.3', 80],
    ['fd00::1', 65_535],
  ] as const) {
    t.same(parseAuthority(authorityOf(address, port)), { address, port })
  }
})

t.test('an authority that is not canonical is refused', async t => {
  const cases = [
    '10.1.2.3',
    '10.1.2.3:0',
    '10.1.2.3:080',
    '10.1.2.3:65536',
    '010.1.2.3:80',
    'localhost:80',
    'fd00::1:80',
    '[fd00:0::1]:80',
    '[FD00::1]:80',
    '[::ffff:10.1.2.3]:80',
    '[10.1.2.3]:80',
    'user@10.1.2.3:80',
    '10.1.2.3:80/',
    ' 10.1.2.3:80',
  ]
  for (const text of cases) t.equal(parseAuthority(text), undefined, text)
})

t.test('prefixes contain their addresses in both families and no others', async t => {
  const prefixes = ['10.244.0.0/16', '10.96.0.1/32', 'fd00:10::/32'].map(parseCidr)
  t.ok(prefixes.every(prefix => prefix !== undefined))
  const inside = cidrsContain(prefixes.filter((prefix): prefix is Cidr => prefix !== undefined))
  for (const address of ['10.244.0.1', '10.244.255.255', '10.96.0.1', 'fd00:10:1::1'])
    t.ok(inside(address), address)
  for (const address of ['10.245.0.1', '10.96.0.2', 'fd00:11::1', '::1']) t.notOk(inside(address), address)
  t.notOk(cidrsContain([])('10.0.0.1'), 'no prefixes contain nothing')
})

t.test('all of one family contains none of the other', async t => {
  const everything = (network: string, family: 'ipv4' | 'ipv6') =>
    cidrsContain([{ network, bits: 0, family }])
  t.ok(everything('::', 'ipv6')('2001:db8::1'))
  t.notOk(everything('::', 'ipv6')('10.0.0.1'))
  t.ok(everything('0.0.0.0', 'ipv4')('10.0.0.1'))
  t.notOk(everything('0.0.0.0', 'ipv4')('2001:db8::1'))
})

t.test('IPv4 prefixes of every length contain what BlockList says they do', async t => {
  for (let bits = 0; bits <= 32; bits += 1) {
    for (const network of ['0.0.0.0', '10.77.131.5', '127.255.255.255', '128.0.0.1', '255.255.255.255']) {
      const reference = new BlockList()
      reference.addSubnet(network, bits)
      const contains = cidrsContain([{ network, bits, family: 'ipv4' }])
      for (const address of [
        '0.0.0.0',
        '10.77.131.4',
        '10.77.130.5',
        '127.0.0.1',
        '128.0.0.0',
        '255.255.255.254',
        network,
      ])
        t.equal(contains(address), reference.check(address), `${address} in ${network}/${bits}`)
    }
  }
})

t.test('a malformed prefix is refused', async t => {
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/08', 'fd00::/129', '10.0/8', 'x/8']) {
    t.equal(parseCidr(text), undefined, text)
  }
})
