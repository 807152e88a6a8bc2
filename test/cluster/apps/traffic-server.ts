// What traffic-client.ts talks to, three ports of one legacy application: HTTP/1.1 on 8080, bytes that are sent back on
// 9000, HTTP/2 without TLS on 9090, where a body is sent back while it is read, as a gRPC stream is.
import { createServer } from 'node:http'
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { createServer as createTcpServer } from 'node:net'

const http = createServer((request, response) => {
  request.resume()
  response.end('ok')
})
http.keepAliveTimeout = 600_000
http.listen(8080, '0.0.0.0')

const echo = createTcpServer(socket => {
  socket.on('error', () => {})
  socket.pipe(socket)
})
echo.listen(9000, '0.0.0.0')

const http2 = createHttp2Server()
http2.on('stream', (stream: ServerHttp2Stream) => {
  stream.on('error', () => {})
  stream.respond({ ':status': 200 })
  stream.pipe(stream)
})
http2.listen(9090, '0.0.0.0', () => console.log(JSON.stringify({ listening: [8080, 9000, 9090] })))
process.on('SIGTERM', () => process.exit(0))
