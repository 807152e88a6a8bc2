// The redirect that brings the probe here is tested in network namespaces (test/netns/interception.test.ts).
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { answerStartupProbe, startupAnswer } from '../../../../proxy/admin/startup.ts'
import { listenTcp } from '../../../../proxy/tcp/accept.ts'
import type { TcpStream } from '../../../../proxy/tcp/tcp-stream.ts'
import { portOf } from '../../../support/tcp-pair.ts'

const PATH = '/startup/7f3a'

const ANSWERS: [head: string, ready: boolean, status: number][] = [
  [`GET ${PATH} HTTP/1.1\r\nhost: x\r\n\r\n`, true, 200],
  [`GET ${PATH} HTTP/1.0\r\n\r\n`, true, 200],
  [`GET ${PATH} HTTP/1.1\r\n\r\n`, false, 503],
  [`GET / HTTP/1.1\r\n\r\n`, true, 404],
  [`GET ${PATH}/ HTTP/1.1\r\n\r\n`, true, 404],
  [`GET ${PATH}?x HTTP/1.1\r\n\r\n`, true, 404],
  [`GET http://x${PATH} HTTP/1.1\r\n\r\n`, true, 404],
  [`POST ${PATH} HTTP/1.1\r\n\r\n`, true, 400],
  [`GET  ${PATH} HTTP/1.1\r\n\r\n`, true, 400],
  [`GET ${PATH} HTTP/2\r\n\r\n`, true, 400],
  [`GET ${PATH}\r\n\r\n`, true, 400],
  ['\x16\x03\x01\r\n\r\n', true, 400],
]
for (const [head, ready, status] of ANSWERS) {
  t.test(`${JSON.stringify(head.split('\r\n')[0])}, ${ready ? 'ready' : 'not ready'}: ${status}`, async t => {
    t.equal(startupAnswer(head, PATH, ready), status)
  })
}

/** What the server answers; with `closed` nothing, once the server has closed the whole connection. */
async function exchange(send: (client: Socket) => void, closed = false): Promise<string> {
  const gone = Promise.withResolvers<void>()
  const answer = (stream: TcpStream) => {
    stream.whenGone(gone.resolve)
    answerStartupProbe(stream, PATH, () => true)
  }
  const server = await listenTcp({ host: '127.0.0.1', port: 0 }, answer, gone.reject)
  const port = portOf(server)
  const client = connect({ host: '127.0.0.1', port, allowHalfOpen: closed })
  try {
    send(client)
    if (!closed) return await text(client)
    await gone.promise
    return ''
  } finally {
    client.destroy()
    await once(server.close(), 'close')
  }
}

t.test('a request in one piece is answered and the connection ended', async t => {
  t.match(await exchange(client => client.write(`GET ${PATH} HTTP/1.1\r\n\r\n`)), /^HTTP\/1\.1 200 OK\r\n/)
})

t.test('a request in many pieces is answered', async t => {
  const answer = await exchange(client => {
    client.setNoDelay(true)
    for (const letter of `GET ${PATH} HTTP/1.1\r\n\r\n`) client.write(letter)
  })
  t.match(answer, /^HTTP\/1\.1 200 OK\r\n/)
})

t.test('a head without end is refused at its limit', async t => {
  t.match(await exchange(client => client.write('x'.repeat(100_000))), /^HTTP\/1\.1 400 /)
})

t.test('a caller that leaves without asking gets nothing', async t => {
  t.equal(await exchange(client => client.end()), '')
})

t.test('whoever only trickles is cut off, before and after the answer', { timeout: 15_000 }, async t => {
  const trickling = (start: string) =>
    exchange(client => {
      client.write(start)
      const trickle = setInterval(() => client.write('x'), 200)
      client.on('error', () => {}).once('close', () => clearInterval(trickle))
    }, true)
  const head = `GET ${PATH} HTTP/1.1\r\n`
  t.same(await Promise.all([trickling(head), trickling(`${head}\r\n`)]), ['', ''])
})
