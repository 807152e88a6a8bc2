// New connections one after another, as a process of its own in the client's namespace: `prober.ts HOST PORT COUNT`.
// Each is timed from its dial to the whole response, and there is a pause between them. Prints the microseconds as JSON.
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const [host = '', port = '', count = ''] = process.argv.slice(2)
const PAUSE_MS = 5
const WARM_UP = 10
const BODY_BYTES = 1024
const REQUEST = `GET /1k HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`

async function probe(): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const started = performance.now()
  let bytes = 0
  const socket = connect({ port: Number(port), host, noDelay: true }, () => socket.write(REQUEST))
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  socket.on('error', reject)
  socket.on('end', () => {
    if (bytes > BODY_BYTES) resolve((performance.now() - started) * 1000)
    else reject(new Error(`a response of ${bytes} bytes`))
  })
  return promise
}

for (let i = 0; i < WARM_UP; i += 1) await probe()
const times: number[] = []
for (let i = 0; i < Number(count); i += 1) {
  times.push(await probe())
  await delay(PAUSE_MS)
}
console.log(JSON.stringify(times))
