// A legacy HTTP/1.1 server: knows nothing of TLS or Postern. Logs one JSON line per request, body included.
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'

const port = Number(process.env.PORT ?? 8080)

const server = createServer(async (request, response) => {
  const body = await text(request)
  const peer = request.socket.remoteAddress
  console.log(JSON.stringify({ method: request.method, path: request.url, peer, body }))
  response.setHeader('content-type', 'application/json')
  response.end(
    JSON.stringify({ ok: true, pod: process.env.HOSTNAME, path: request.url, received: body.length }),
  )
})
server.keepAliveTimeout = 60_000
server.listen(port, '0.0.0.0', () => console.log(JSON.stringify({ listening: port })))
process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  server.closeIdleConnections()
})
