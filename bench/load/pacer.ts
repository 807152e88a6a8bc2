// Requests at a fixed rate on kept connections, whatever the answers take, as a process of its own in the client's
// namespace: `pacer.ts HOST PORT RATE CONNECTIONS SECONDS`. One is sent when it is due, on the connection that has waited
// longest; where all are busy it is counted from when it was due, so that a stall is not hidden. wrk knows no rates, and
// h2load sends those of all its clients in one burst. Prints the microseconds as JSON.
import { connect, type Socket } from 'node:net'

const [host = '', ...numbers] = process.argv.slice(2)
const [port = 0, rate = 0, connections = 0, seconds = 0] = numbers.map(Number)
const REQUEST = `GET /1k HTTP/1.1\r\nhost: ${host}\r\n\r\n`
const BODY_BYTES = 1024
const WARM_UP = rate / 2

const idle: Socket[] = []
const due: number[] = []
const times: number[] = []
const total = WARM_UP + rate * seconds

function open(): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = connect({ host, port, noDelay: true }, resolve)
  socket.on('error', reject).on('close', () => fail('a connection was closed'))
  idle.push(socket)
  return promise
}

function send(socket: Socket, since: number): void {
  let response = ''
  socket.on('data', (chunk: Buffer) => {
    response += chunk.toString('latin1')
    const end = response.indexOf('\r\n\r\n')
    if (end < 0 || response.length < end + 4 + BODY_BYTES) return
    if (!response.startsWith('HTTP/1.1 200 ')) fail(response)
    times.push((performance.now() - since) * 1000)
    socket.removeAllListeners('data')
    if (times.length === total) finish()
    const next = due.shift()
    if (next === undefined) idle.push(socket)
    else send(socket, next)
  })
  socket.write(REQUEST)
}

/** The end of the process would cut off what the pipe has not taken yet. */
function finish(): void {
  process.stdout.write(`${JSON.stringify(times.slice(WARM_UP))}\n`, () => process.exit())
}

function fail(why: string): never {
  console.error(why)
  process.exit(1)
}

await Promise.all(Array.from({ length: connections }, open))
const started = performance.now()
let sent = 0
setInterval(() => {
  const now = performance.now()
  const target = Math.min(total, ((now - started) / 1000) * rate)
  for (; sent < target; sent += 1) {
    const socket = idle.shift()
    if (socket) send(socket, now)
    else due.push(now)
  }
}, 1)
