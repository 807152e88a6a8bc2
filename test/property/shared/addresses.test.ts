import fc from 'fast-check'
import t from 'tap'
import {
  authorityOf,
  canonicalAddress,
  cidrsContain,
  parseAuthority,
  parseCidr,
} from '../../../shared/addresses.ts'

const address = fc.oneof(fc.ipV4(), fc.ipV6())

t.test('a canonical address is its own canonical form, whatever form it had', async () => {
  fc.assert(
    fc.property(address, text => {
      const canonical = canonicalAddress(text)
      return (
        canonical !== undefined &&
        canonicalAddress(canonical) === canonical &&
        canonicalAddress(text.toUpperCase()) === canonical
      )
    }),
  )
})

t.test('an IPv6 address has one text however its zeros are written', async () => {
  const words = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), {
    minLength: 8,
    maxLength: 8,
  })
  fc.assert(
    fc.property(words, groups => {
      const short = groups.map(word => word.toString(16)).join(':')
      const long = groups.map(word => word.toString(16).padStart(4, '0')).join(':')
      return canonicalAddress(short) === canonicalAddress(long)
    }),
  )
})

t.test('an authority is read back, and text that is none never becomes one', async () => {
  fc.assert(
    fc.property(address, fc.integer({ min: 1, max: 65_535 }), (text, port) => {
      const canonical = canonicalAddress(text) ?? ''
      const read = parseAuthority(authorityOf(canonical, port))
      return read?.address === canonical && read.port === port
    }),
  )
  fc.assert(
    fc.property(fc.string(), text => {
      const read = parseAuthority(text)
      return read === undefined || authorityOf(read.address, read.port) === text
    }),
  )
})

t.test('a prefix contains its network, and nothing beyond its bits', async () => {
  const toNumber = (ip: string) => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
  fc.assert(
    fc.property(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), (network, other, bits) => {
      const cidr = parseCidr(`${network}/${bits}`)
      if (!cidr) return false
      const size = 2 ** (32 - bits)
      const same = Math.floor(toNumber(network) / size) === Math.floor(toNumber(other) / size)
      return cidrsContain([cidr])(other) === same
    }),
  )
})
