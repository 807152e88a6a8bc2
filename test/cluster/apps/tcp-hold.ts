// A client with one long connection: dials `HOST PORT`, sends a byte every 20 ms, and prints when the connection opened,
// when it ended, and how: `tcp-hold.ts HOST PORT SECONDS`. Times are milliseconds since the epoch.
import { connect } from 'node:net'

const [host = '', port = '', seconds = '60'] = process.argv.slice(2)
const socket = connect({ host, port: Number(port) })
let openedAt: number | undefined
let received = 0

socket.on('data', chunk => {
  openedAt ??= Date.now()
  received += chunk.length
})
const ticking = setInterval(() => socket.write('.'), 20)
const over = setTimeout(() => finish(), Number(seconds) * 1000)
socket.on('error', error => finish((error as NodeJS.ErrnoException).code ?? error.message))
socket.on('end', () => finish('the server ended it'))

function finish(error?: string): void {
  clearInterval(ticking)
  clearTimeout(over)
  socket.destroy()
  console.log(JSON.stringify({ openedAt, endedAt: Date.now(), received, error }))
}
