// Opens streams and holds them, as a process of its own in the client's namespace: `holder.ts HOST PORT COUNT`. Each stream
// counts when its first byte has come back through everything. It prints one line then, and ends with its stdin.
import { connect, type Socket } from 'node:net'

const [host = '', port = '', count = ''] = process.argv.slice(2)
/** More at once would overflow somebody's listen queue, which is not what is measured. */
const AT_ONCE = 64
const REQUEST = `GET /hold HTTP/1.1\r\nhost: ${host}\r\n\r\n`

const held: Socket[] = []

function open(): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = connect(Number(port), host, () => socket.write(REQUEST))
  // A response's head and its first byte may come apart; the chunk's end is the last of them.
  socket.on('data', (chunk: Buffer) => {
    if (chunk.includes('.\r\n')) resolve()
  })
  socket.on('error', reject).on('close', () => reject(new Error(`stream ${held.length} was closed`)))
  held.push(socket)
  return promise
}

async function openMany(): Promise<void> {
  while (held.length < Number(count)) await open()
}

await Promise.all(Array.from({ length: AT_ONCE }, openMany))
console.log(`holding ${held.length}`)
process.stdin.resume().on('end', () => process.exit())
