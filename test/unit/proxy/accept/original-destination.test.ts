// The kernel's own answers are tested in network namespaces (test/netns/interception.test.ts).
import { endianness } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import {
  fixedDestinations,
  kernelDestination,
  parseSockaddr,
} from '../../../../proxy/accept/original-destination.ts'
import { requireLinux } from '../../../support/requirements.ts'
import { tcpPair } from '../../../support/tcp-pair.ts'

const PEER = { address: '127.0.0.1', port: 40_000 }

/** struct sockaddr_in6 has the fields of sockaddr_in but for the flow label before the address. */
function sockaddr(family: number, port: number, rest: number[]): Buffer {
  const bytes = Buffer.alloc(28)
  if (endianness() === 'LE') bytes.writeUInt16LE(family)
  else bytes.writeUInt16BE(family)
  bytes.writeUInt16BE(port, 2)
  bytes.set(rest, 4)
  return bytes
}

t.test('a sockaddr_in has its port and address in network order', async t => {
  t.strictSame(parseSockaddr(sockaddr(2, 0x1f90, [10, 1, 2, 3])), { address: '10.1.2.3', port: 8080 })
})

t.test('a sockaddr_in6 has its address behind the flow label', async t => {
  const address = [0x20, 0x01, 0x0d, 0xb8, ...Array(10).fill(0), 0x12, 0x34]
  const scope = [9, 0, 0, 0]
  const bytes = sockaddr(10, 443, [0xff, 0xff, 0xff, 0xff, ...address, ...scope])
  t.strictSame(parseSockaddr(bytes), { address: '2001:db8::1234', port: 443 })
})

t.test('an IPv4-mapped address is IPv4', async t => {
  const address = [...Array(10).fill(0), 0xff, 0xff, 10, 1, 2, 3]
  t.strictSame(parseSockaddr(sockaddr(10, 80, [0, 0, 0, 0, ...address])), { address: '10.1.2.3', port: 80 })
})

t.test('another address family is refused', async t => {
  t.throws(() => parseSockaddr(sockaddr(1, 80, [])), { code: 'PSTN_INTERCEPTION', message: /family 1/ })
})

t.test('a connection that nothing redirected has none', { skip: requireLinux() }, async t => {
  const { stream } = await tcpPair(t)
  t.throws(() => kernelDestination()(stream, PEER), { code: 'PSTN_INTERCEPTION', message: /does not know/ })
})

t.test('a closed connection has none, and says so', { skip: requireLinux() }, async t => {
  const { stream } = await tcpPair(t)
  stream.close()
  await delay(5)
  t.throws(() => kernelDestination()(stream, PEER), { code: 'PSTN_INTERCEPTION', message: /closed/ })
})

t.test('a fixed table answers by the listener that accepted', async t => {
  const { stream, far } = await tcpPair(t)
  const listener = `127.0.0.1:${far.remotePort}`
  const destination = { address: '10.0.0.1', port: 80 }
  t.strictSame(fixedDestinations(new Map([[listener, destination]]))(stream, PEER), destination)
  t.throws(() => fixedDestinations(new Map())(stream, PEER), {
    code: 'PSTN_INTERCEPTION',
    message: new RegExp(listener),
  })
})
