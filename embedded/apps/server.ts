// A legacy HTTP server: no TLS, no idea of Postern. Usage: server.ts HOST PORT...
import { createServer, type RequestListener } from 'node:http'
import { endWithParent } from '../with-parent.ts'

endWithParent()
const [host, ...ports] = process.argv.slice(2)
let served = 0

const answer: RequestListener = (request, response) => {
  served += 1
  response.setHeader('content-type', 'application/json')
  if (request.url === '/stream') {
    // A response that does not end by itself: what a live policy change must close.
    response.write(`${JSON.stringify({ served, stream: true })}\n`)
    return
  }
  response.end(`${JSON.stringify({ served, path: request.url })}\n`)
}

for (const port of ports) createServer(answer).listen(Number(port), host)
