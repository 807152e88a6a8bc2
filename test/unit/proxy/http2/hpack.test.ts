import t, { type Test } from 'tap'
import { ErrorCode, Http2Error } from '../../../../proxy/http2/errors.ts'
import type { Header } from '../../../../proxy/http2/header.ts'
import { HpackDecoder } from '../../../../proxy/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../../../proxy/http2/hpack-encoder.ts'
import { STATIC_TABLE } from '../../../../proxy/http2/hpack-static-table.ts'
import { APPENDIX_C } from './rfc7541-appendix-c.ts'

const decoder = (maxListSize = 16 * 1024) => new HpackDecoder({ maxTableSize: 4096, maxListSize })
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

/** `Dynamic Table Size Update` to 256: what the examples with a small table presuppose. */
const SIZE_256 = hex('3fe101')

for (const { name, tableSize, blocks } of APPENDIX_C) {
  t.test(`RFC 7541, ${name}, decodes`, async t => {
    const hpack = decoder()
    if (tableSize === 256) t.same(hpack.decode(SIZE_256), [])
    for (const block of blocks) t.same(hpack.decode(hex(block.hex)), block.headers)
  })
}

t.test('RFC 7541, C.4: requests are encoded to the very bytes of the example', async t => {
  const encoder = new HpackEncoder()
  const requests = APPENDIX_C.find(({ name }) => name.startsWith('C.4'))?.blocks ?? []
  t.equal(requests.length, 3)
  for (const { hex, headers } of requests) t.equal(encoder.encode(headers).toString('hex'), hex)
})

t.test('the static table has its 61 entries', async t => {
  t.equal(STATIC_TABLE.length, 61)
  t.same(STATIC_TABLE[60], ['www-authenticate', ''])
  t.same(STATIC_TABLE[27], ['content-length', ''])
})

const BROKEN: readonly (readonly [why: string, block: string])[] = [
  ['index 0', '80'],
  ['an index behind the tables', 'be'],
  ['a name of an index behind the tables', '7f00 0161'],
  ['a field that ends within its name', '400a 6375'],
  ['a field that ends before its value', '4001 61'],
  ['an integer that ends', 'ff'],
  ['an integer beyond every limit', 'ff ffff ffff ffff ffff 7f'],
  ['an integer that is padded with zeros', 'ff 8080 8080 8080 00'],
  ['a string longer than the block', '0001 617f ffff 7f'],
  ['a table size update behind a field', '82 20'],
  ['a table size update beyond what was allowed', '3fe2 1f'],
  ['Huffman code that ends with eight bits of padding', '0001 6182 1fff'],
  ['Huffman code that is padded with zeros', '0001 6181 18'],
  ['Huffman code with EOS in it', '0001 6184 ffff ffff'],
]

for (const [why, block] of BROKEN) {
  t.test(`${why} is a connection error`, async t => {
    throwsHttp2(t, () => decoder().decode(hex(block), 1), ErrorCode.COMPRESSION_ERROR, undefined)
  })
}

t.test('the positive control of the Huffman cases', async t => {
  t.same(decoder().decode(hex('0001 6181 1f')), [['a', 'a']])
})

t.test('a list beyond the limit ends its stream, and the next block is still understood', async t => {
  const [encoder, hpack] = [new HpackEncoder(), decoder(300)]
  const large: Header[] = [
    ['kept', 'in the table'],
    ['large', 'x'.repeat(400)],
  ]
  throwsHttp2(t, () => hpack.decode(encoder.encode(large), 5), ErrorCode.ENHANCE_YOUR_CALM, 5)
  const block = encoder.encode([['kept', 'in the table']])
  t.equal(block.length, 1, 'the refused list filled the table')
  t.same(hpack.decode(block, 7), [['kept', 'in the table']])
})

t.test('a small block cannot make a large list', async t => {
  const entry = new HpackEncoder().encode([['bomb', 'x'.repeat(900)]])
  const hpack = decoder(16 * 1024)
  const bomb = Buffer.concat([entry, Buffer.alloc(60_000, 0xbe)])
  throwsHttp2(t, () => hpack.decode(bomb, 1), ErrorCode.ENHANCE_YOUR_CALM, 1)
})

t.test('secrets are never indexed, and the word of a sender is kept', async t => {
  const encoder = new HpackEncoder()
  const headers: Header[] = [
    ['authorization', 'Bearer x', true],
    ['cookie', 'a=b', true],
    ['x-key', 'secret', true],
  ]
  const block = encoder.encode(headers)
  t.ok(block.equals(encoder.encode(headers)), 'nothing was learnt of the first')
  t.same(decoder().decode(block), headers)
})

t.test('what changes with every message does not enter the table', async t => {
  const encoder = new HpackEncoder()
  const headers: Header[] = [
    ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    ['content-length', '17'],
    [':path', '/search?q=1'],
  ]
  t.ok(encoder.encode(headers).equals(encoder.encode(headers)))
})

t.test('a peer that allows a smaller table is told so, once, and a later growth as well', async t => {
  const [encoder, hpack] = [new HpackEncoder(), decoder()]
  const headers: Header[] = [['name', 'value']]
  hpack.decode(encoder.encode(headers))
  encoder.setMaxTableSize(0)
  const none = encoder.encode(headers)
  t.equal(none[0], 0x20)
  t.same(hpack.decode(none), headers)
  t.equal(encoder.encode([[':method', 'GET']]).toString('hex'), '82')
  encoder.setMaxTableSize(64)
  encoder.setMaxTableSize(128)
  hpack.decode(encoder.encode(headers))
  encoder.setMaxTableSize(0)
  encoder.setMaxTableSize(1_000_000)
  const both = encoder.encode(headers)
  t.equal(both.toString('hex', 0, 4), '203fe11f', 'the smallest size, then the last')
  t.same(hpack.decode(both), headers)
})

t.test('a peer that ignores a smaller table is refused', async t => {
  const hpack = decoder()
  hpack.decode(hex('82'))
  hpack.setMaxTableSize(100)
  throwsHttp2(t, () => hpack.decode(hex('82')), ErrorCode.COMPRESSION_ERROR, undefined)
})

t.test('a character of more than one byte is refused, since half of it could be a line feed', async t => {
  t.throws(() => new HpackEncoder().encode([['name', '\u010a']]), RangeError)
})

t.test('the request and answer of a tunnel are one byte a field from the second on', async t => {
  const encoder = new HpackEncoder()
  const request: Header[] = [
    [':method', 'CONNECT'],
    [':authority', '10.0.0.7:8080'],
    ['forwarded', 'for=10.0.0.3'],
  ]
  encoder.encode(request)
  t.equal(encoder.encode(request).length, 3)
  t.equal(encoder.encode([[':status', '200']]).length, 1)
})

function throwsHttp2(t: Test, act: () => unknown, code: ErrorCode, streamId: number | undefined): void {
  try {
    act()
    t.fail('nothing was thrown')
  } catch (thrown) {
    t.type(thrown, Http2Error)
    t.match(thrown, { code })
    t.equal(thrown instanceof Http2Error ? thrown.streamId : -1, streamId)
  }
}
