// The backend for what a file server cannot do: counts what is uploaded to it, and holds streams open. Node's HTTP server
// would cost more CPU than some of the proxies, so it reads from the socket into one buffer and knows two requests.
import { createServer, type Socket } from 'node:net'

const BUFFER_BYTES = 1024 * 1024
const BACKLOG = 16_384
const HELD =
  'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1\r\n.\r\n'

/** `PUT` is answered with the number of bytes that came; anything else gets one byte of a body that never ends. */
function serve(socket: Socket): void {
  let [head, missing, total] = ['', 0, 0]
  const begin = (text: string) => {
    head = ''
    if (!text.startsWith('PUT ')) return void socket.write(HELD)
    total = Number(/^content-length: *(\d+)\r$/im.exec(text)?.[1] ?? Number.NaN)
    missing = total
    if (/^expect: *100-continue\r$/im.test(text)) socket.write('HTTP/1.1 100 Continue\r\n\r\n')
  }
  socket.on('error', () => socket.destroy())
  socket.on('data', (chunk: Buffer) => {
    let body = chunk.length
    if (missing === 0) {
      head += chunk.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      body = head.length - end - 4
      begin(head.slice(0, end + 2))
    }
    if (missing === 0) return
    missing -= body
    if (missing > 0) return
    const text = `${total}\n`
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`)
  })
}

const server = createServer({ highWaterMark: BUFFER_BYTES, noDelay: true }, serve)
server.listen({ port: Number(process.argv[2]), host: '::', backlog: BACKLOG })
