// A server that does TLS itself with the files of postern.dev/cert-files: answers with who calls, and takes up new files when
// its hook is asked.
import { readFileSync, readlinkSync } from 'node:fs'
import { createServer as createHook } from 'node:http'
import { createServer } from 'node:https'
import type { TLSSocket } from 'node:tls'

const directory = '/var/run/secrets/postern.dev'
const files = () => {
  const now = `${directory}/${readlinkSync(`${directory}/..data`)}`
  const [key, cert, ca] = ['tls.key', 'tls.crt', 'ca.crt'].map(name => readFileSync(`${now}/${name}`))
  return { key, cert, ca }
}

const server = createServer({ ...files(), requestCert: true }, (request, response) => {
  response.end((request.socket as TLSSocket).getPeerCertificate().subjectaltname)
})
server.listen(8443, '::')

let reloads = 0
createHook((request, response) => {
  if (request.method === 'POST') {
    server.setSecureContext(files())
    reloads += 1
  }
  response.end(String(reloads))
}).listen(8081, '127.0.0.1')
