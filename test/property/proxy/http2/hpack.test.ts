// Our HPACK against itself, and against node:http2 (nghttp2) as a peer that knows nothing of it, over a real connection.
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { Http2Error } from '../../../../proxy/http2/errors.ts'
import { FrameReader } from '../../../../proxy/http2/frame-reader.ts'
import { CONNECTION_PREFACE, headersFrames, Setting, settingsFrame } from '../../../../proxy/http2/frames.ts'
import type { Header } from '../../../../proxy/http2/header.ts'
import { HpackDecoder } from '../../../../proxy/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../../../proxy/http2/hpack-encoder.ts'
import { STATIC_TABLE } from '../../../../proxy/http2/hpack-static-table.ts'
import { decodeHuffman, encodeHuffman, huffmanLength } from '../../../../proxy/http2/huffman.ts'
import { ignoringFrames } from '../../../support/http2-frames.ts'

const LISTS = 3_000

const bytes = (maxLength: number) =>
  fc.uint8Array({ maxLength }).map(array => Buffer.from(array).toString('latin1'))
const name = fc.oneof(
  fc.constantFrom(...STATIC_TABLE.map(([name]) => name)),
  fc.constantFrom('x-a', 'x-b', 'x-c', 'grpc-timeout'),
  bytes(60),
)
const value = fc.oneof(fc.constantFrom('', 'GET', '200', 'short', 'x'.repeat(1100)), bytes(200))
const header: fc.Arbitrary<Header> = fc.oneof(
  { weight: 9, arbitrary: fc.tuple(name, value) },
  { weight: 1, arbitrary: fc.tuple(name, value, fc.constant(true)) },
)
const list = fc.array(header, { maxLength: 12 })
/** A size of the table now and then, which both sides agree on. */
const steps = fc.array(fc.record({ list, size: fc.option(fc.nat(6_000), { freq: 5 }) }), { maxLength: 30 })

const SECRET = new Set(['authorization', 'proxy-authorization', 'cookie', 'set-cookie'])
const decoded = (headers: readonly Header[]): Header[] =>
  headers.map(([name, value, never]) => (never || SECRET.has(name) ? [name, value, true] : [name, value]))

t.test('whatever is encoded is decoded, over many blocks and sizes of the table', async t => {
  fc.assert(
    fc.property(steps, steps => {
      const encoder = new HpackEncoder()
      const decoder = new HpackDecoder({ maxTableSize: 4096, maxListSize: 1_000_000 })
      for (const { list, size } of steps) {
        if (size !== null) {
          encoder.setMaxTableSize(size)
          decoder.setMaxTableSize(size)
        }
        const found = decoder.decode(encoder.encode(list))
        if (JSON.stringify(found) !== JSON.stringify(decoded(list))) return false
      }
      return true
    }),
    { numRuns: 300 },
  )
  t.pass()
})

t.test('Huffman code reads back for every string of bytes', async t => {
  fc.assert(
    fc.property(bytes(300), text => {
      const into = Buffer.alloc(huffmanLength(text))
      return encodeHuffman(text, into, 0) === into.length && decodeHuffman(into, 0, into.length) === text
    }),
  )
  const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString('latin1')
  const into = Buffer.alloc(huffmanLength(every))
  encodeHuffman(every, into, 0)
  t.equal(decodeHuffman(into, 0, into.length), every)
})

t.test(
  'random blocks are decoded or refused with a connection error, and never grow beyond the limits',
  async t => {
    const decoder = () => new HpackDecoder({ maxTableSize: 4096, maxListSize: 8_192 })
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 4 }), blocks => {
        const hpack = decoder()
        try {
          for (const block of blocks) hpack.decode(Buffer.from(block))
        } catch (thrown) {
          return thrown instanceof Http2Error && thrown.streamId === undefined
        }
        return true
      }),
      { numRuns: 5_000 },
    )
    t.pass()
  },
)

t.test(`${LISTS} header lists to node:http2 and back, over one connection`, async t => {
  const nodeName = fc.stringMatching(/^x-[a-z0-9!#$%&'*+.^_`|~-]{1,30}$/)
  const nodeValue = fc.oneof(
    fc.stringMatching(/^[!-~]([ -~]{0,120}[!-~])?$/),
    fc.constantFrom('always the same', 'another'),
  )
  const pool = fc.sample(fc.tuple(nodeName, nodeValue), { numRuns: 200, seed: 4 })
  const lists = fc.sample(
    fc.uniqueArray(fc.oneof(fc.constantFrom(...pool), fc.tuple(nodeName, nodeValue)), {
      maxLength: 10,
      selector: ([name]) => name,
    }),
    { numRuns: LISTS, seed: 4 },
  )
  const server = createServer()
  const received: Header[][] = []
  server.on('stream', (stream: ServerHttp2Stream, _: IncomingHttpHeaders, _flags: number, raw: string[]) => {
    const fields = raw.flatMap((name, at): Header[] => (at % 2 === 0 ? [[name, raw[at + 1] ?? '']] : []))
    received.push(fields)
    const answer = fields.filter(([name]) => !name.startsWith(':'))
    stream.respond({ ':status': 200, ...Object.fromEntries(answer) }, { endStream: true })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')

  const answers = new Map<number, Header[]>()
  const { promise: done, resolve, reject } = Promise.withResolvers<void>()
  const decoder = new HpackDecoder({ maxTableSize: 4096, maxListSize: 65_536 })
  const reader = new FrameReader(
    {
      ...ignoringFrames,
      headers: (streamId, block) => {
        answers.set(streamId, decoder.decode(block))
        if (answers.size === lists.length) resolve()
        send()
      },
      goaway: (_, code) => reject(new Error(`GOAWAY ${code}`)),
      rstStream: (streamId, code) => reject(new Error(`RST_STREAM ${streamId} ${code}`)),
    },
    { from: 'server', maxFrameSize: 16_384 },
  )
  socket.on('data', (chunk: Buffer) => {
    try {
      reader.push(chunk)
    } catch (thrown) {
      reject(thrown)
    }
  })
  socket.on('error', reject)

  const encoder = new HpackEncoder()
  const requests = lists.map((fields): Header[] => [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'shop:8080'],
    [':path', '/'],
    ...fields,
  ])
  let sent = 0
  const send = () => {
    const request = requests[sent]
    if (request === undefined) return
    socket.write(headersFrames(2 * sent + 1, encoder.encode(request), true))
    sent += 1
  }
  socket.write(Buffer.concat([CONNECTION_PREFACE, settingsFrame([[Setting.enablePush, 0]])]))
  for (let index = 0; index < 50; index += 1) send()
  await done

  t.same(received, requests, 'node:http2 has decoded what was encoded here')
  const returned = lists.map((_, index) =>
    (answers.get(2 * index + 1) ?? []).filter(([name]) => name !== 'date' && name !== ':status'),
  )
  t.same(
    returned.map(fields => fields.map(([name, value]) => [name, value])),
    lists,
    'and the reverse',
  )
  socket.destroy()
  server.close()
})
