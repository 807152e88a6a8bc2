// h2spec through the HTTP/2 gate, with node:http2 as the application behind it.
import { once } from 'node:events'
import { createServer, type ServerHttp2Stream } from 'node:http2'
import t from 'tap'
import { failedOf, h2spec } from '../support/h2spec.ts'
import { startGate } from '../support/http2-gate.ts'
import { requireGo } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** Refused with 400 and a code, which RFC 9113, section 8.1.1, allows; h2spec knows RST_STREAM alone. */
const ANSWERED = [
  'Sends a HEADERS frame that contains a unknown pseudo-header field',
  'Sends a HEADERS frame that contains the pseudo-header field defined for response',
  'Sends a HEADERS frame that contains a pseudo-header field that appears in a header block after a regular header field',
  'Sends a HEADERS frame that contains the connection-specific header field',
  'Sends a HEADERS frame that contains the TE header field with any value other than "trailers"',
  'Sends a HEADERS frame that contains the header field name in uppercase letters',
  'Sends a HEADERS frame with empty ":path" pseudo-header field',
  'Sends a HEADERS frame that omits ":method" pseudo-header field',
  'Sends a HEADERS frame that omits ":scheme" pseudo-header field',
  'Sends a HEADERS frame that omits ":path" pseudo-header field',
  'Sends a HEADERS frame with duplicated ":method" pseudo-header field',
  'Sends a HEADERS frame with duplicated ":scheme" pseudo-header field',
  'Sends a HEADERS frame with duplicated ":path" pseudo-header field',
]

/** What passes to the application, which is node:http2. */
const OF_THE_APPLICATION = [
  'Sends a PING frame with ACK',
  'Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream',
]

t.test('the gate speaks HTTP/2 as h2spec has it', { skip: requireGo(), timeout: 180_000 }, async t => {
  const application = createServer({ settings: { maxConcurrentStreams: 100 } })
  application.on('sessionError', () => {})
  application.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {}).resume()
    stream.respond({ ':status': 200 })
    stream.end('an answer')
  })
  application.listen(0, '127.0.0.1')
  await once(application, 'listening')
  await using gate = await startGate(application)
  const outcomes = await h2spec(gate.port, scratchDirectory(t))
  application.close()
  t.ok(outcomes.length > 140, `${outcomes.length} cases`)
  t.same(failedOf(outcomes).sort(), [...ANSWERED, ...OF_THE_APPLICATION].sort())
})
