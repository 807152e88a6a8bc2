// Dials `HOST PORT`, says nothing, and prints when the banner came: `tcp-client.ts HOST PORT [TEXT-TO-SEND-AFTERWARDS]`.
import { connect } from 'node:net'

const [host = '', port = '', message] = process.argv.slice(2)
const started = performance.now()
const socket = connect({ host, port: Number(port) })
let received = ''
let bannerMs: number | undefined

socket.setEncoding('utf8').on('data', chunk => {
  received += chunk
  if (bannerMs === undefined) {
    bannerMs = performance.now() - started
    if (message === undefined) socket.end()
    else socket.end(message)
  }
})
socket.setTimeout(10_000, () => socket.destroy(new Error('timeout')))
socket.on('error', error => finish(error.message))
socket.on('end', () => finish())

function finish(error?: string): void {
  console.log(JSON.stringify({ received, bannerMs, error }))
  process.exit(error ? 1 : 0)
}
