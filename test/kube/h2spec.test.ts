// h2spec, the conformance tests of others, against the tunnel's HTTP/2: the session alone with an application that answers
// any request, and then our real listener, behind a relay that has a certificate, with what needs no such application.
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { ErrorCode } from '../../proxy/http2/errors.ts'
import { writeAnswer } from '../../proxy/tunnel/connect-headers.ts'
import { Allowance } from '../../proxy/tunnel/flow-control.ts'
import { Held } from '../../proxy/tunnel/held.ts'
import { Session } from '../../proxy/tunnel/session.ts'
import { failedOf, h2spec } from '../support/h2spec.ts'
import { requireGo } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { tunnelPair } from '../support/tunnel-pair.ts'

/** What a tunnel does otherwise, and why. */
const DIFFERENT: Readonly<Record<string, string>> = {
  'Sends a POST request with trailers': 'a connected stream carries DATA alone (RFC 9113, section 8.5)',
  'Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE':
    'it is within our frame size; its header list is refused',
  'Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length':
    'a tunnel has no bodies',
  'Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple DATA frames payload length':
    'a tunnel has no bodies',
}

/** Sections that need no answer to a GET, which our listener refuses. */
const OF_CONNECTIONS = ['http2/3.5', 'http2/4.1', 'http2/4.3', 'http2/5.1.1', 'http2/5.4', 'http2/5.5']
const OF_FRAMES = ['http2/6.3', 'http2/6.4', 'http2/6.5.2', 'http2/6.7', 'http2/6.8', 'http2/6.10', 'hpack']

async function against(server: Server, directory: string, sections: readonly string[] = []) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  const outcomes = await h2spec(typeof bound === 'object' && bound ? bound.port : 0, directory, sections)
  server.close()
  return outcomes
}

/** Answers every well-formed request when it has ended. */
const answering = () =>
  createServer({ noDelay: true }, socket => {
    const session: Session = new Session({
      role: 'server',
      socket,
      maxStreams: 100,
      growth: new Allowance(0),
      held: new Held(),
      onLimit: () => {},
      onClose: () => {},
      onRequest: (stream, { kind }) => {
        if (kind === 'malformed') {
          session.streams.fail(stream.id, ErrorCode.PROTOCOL_ERROR)
          return
        }
        const answer = () => {
          session.streams.answer(stream, writeAnswer(200), false)
          stream.write(Buffer.from('an answer'))
          stream.end()
        }
        stream.open({ data: () => {}, drain: () => {}, closed: () => {}, end: answer })
      },
    })
  })

t.test('the session speaks HTTP/2 as h2spec has it', { skip: requireGo(), timeout: 180_000 }, async t => {
  const outcomes = await against(answering(), scratchDirectory(t))
  t.ok(outcomes.length > 140, `${outcomes.length} cases`)
  t.same(failedOf(outcomes).sort(), Object.keys(DIFFERENT).sort())
})

t.test('so does the listener, on TLS', { skip: requireGo(), timeout: 180_000 }, async t => {
  await using pair = await tunnelPair({ onRequest: request => request.refuse(503, 'PSTN_APP_UNREACHABLE') })
  const relay = createServer({ noDelay: true }, (plain: Socket) => {
    const secured = connectTls({
      ...pair.clientTls.get()?.context,
      host: '127.0.0.1',
      port: pair.server.port,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
    })
    for (const [from, to] of [
      [plain, secured],
      [secured, plain],
    ] as const) {
      from.on('error', () => {}).on('close', () => to.destroy())
      from.pipe(to)
    }
  })
  const outcomes = await against(relay, scratchDirectory(t), [...OF_CONNECTIONS, ...OF_FRAMES])
  t.ok(outcomes.length > 35, `${outcomes.length} cases`)
  t.same(failedOf(outcomes), [])
})
