// Asks an HTTPS server, `node tls-client.ts URL SECONDS`, on a new connection each time with the files of postern.dev/cert-files
// as they are then, and prints what it was answered and which certificates it saw.
import { readFileSync, readlinkSync } from 'node:fs'
import { get } from 'node:https'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'

const [url = '', seconds = '0'] = process.argv.slice(2)
const directory = '/var/run/secrets/postern.dev'
const answers: Record<string, number> = {}
const serials = new Set<string>()

function ask(): Promise<string> {
  const now = `${directory}/${readlinkSync(`${directory}/..data`)}`
  const [key, cert, ca] = ['tls.key', 'tls.crt', 'ca.crt'].map(name => readFileSync(`${now}/${name}`))
  const { promise, resolve } = Promise.withResolvers<string>()
  const request = get(url, { key, cert, ca, agent: false, timeout: 5_000 }, response => {
    serials.add((response.socket as TLSSocket).getPeerCertificate().serialNumber)
    let body = ''
    response.setEncoding('utf8').on('data', text => {
      body += text
    })
    response.on('end', () => resolve(body))
  })
  request.on('error', error => resolve(`error: ${error.message}`))
  request.on('timeout', () => request.destroy(new Error('timeout')))
  return promise
}

const deadline = Date.now() + Number(seconds) * 1000
do {
  const answer = await ask()
  answers[answer] = (answers[answer] ?? 0) + 1
  await delay(50)
} while (Date.now() < deadline)
console.log(JSON.stringify({ answers, serials: [...serials] }))
