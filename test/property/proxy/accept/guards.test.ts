// Whatever a peer writes as a destination, it is either the one text of an address, or refused.
import fc from 'fast-check'
import t from 'tap'
import { checkInboundDestination, parseAuthority } from '../../../../proxy/accept/guards.ts'
import { parseSockaddr } from '../../../../proxy/accept/original-destination.ts'
import { authorityOf, canonicalAddress } from '../../../../shared/addresses.ts'
import { isCode, PosternError } from '../../../../shared/errors.ts'
import { isOwnPort } from '../../../../shared/ports.ts'

const address = fc.oneof(fc.ipV4(), fc.ipV6())
const port = fc.integer({ min: 1, max: 65_535 })
const noise = fc.oneof(
  fc.string(),
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef.:[]%') }),
  fc.tuple(address, port).map(([host, number]) => `${host}:${number}`),
  fc.tuple(address, port).map(([host, number]) => `[${host}]:${number}`),
)

function attempt<T>(work: () => T): T | PosternError {
  try {
    return work()
  } catch (thrown) {
    if (thrown instanceof PosternError) return thrown
    throw thrown
  }
}

t.test('what parses is written back as it was, so no authority has two texts', async () => {
  fc.assert(
    fc.property(noise, text => {
      const parsed = attempt(() => parseAuthority(text))
      if (parsed instanceof PosternError) return parsed.code === 'PSTN_TUNNEL_MALFORMED'
      return authorityOf(parsed.address, parsed.port) === text
    }),
    { numRuns: 2_000 },
  )
})

t.test('every canonical address and port parses', async () => {
  fc.assert(
    fc.property(address, port, (text, number) => {
      const canonical = canonicalAddress(text) ?? ''
      const parsed = parseAuthority(authorityOf(canonical, number))
      return parsed.address === canonical && parsed.port === number
    }),
  )
})

t.test('inbound lets through only this pod’s addresses and never our own ports', async () => {
  fc.assert(
    fc.property(fc.array(address, { maxLength: 2 }), address, port, (ips, other, number) => {
      const podIps = ips.map(ip => canonicalAddress(ip) ?? '')
      for (const destination of [...podIps, canonicalAddress(other) ?? '']) {
        const result = attempt(() => checkInboundDestination({ address: destination, port: number }, podIps))
        const allowed = podIps.includes(destination) && !isOwnPort(number)
        if (allowed !== (result === undefined)) return false
      }
      return true
    }),
  )
})

t.test('no sockaddr makes the parser do anything but answer or refuse', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 28, maxLength: 28 }), bytes => {
      const result = attempt(() => parseSockaddr(Buffer.from(bytes)))
      if (result instanceof PosternError) return isCode(result.code)
      return canonicalAddress(result.address) === result.address
    }),
  )
})
