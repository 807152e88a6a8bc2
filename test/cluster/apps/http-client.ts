// A legacy HTTP/1.1 client: `http-client.ts URL [--body TEXT] [--count N] [--seconds N] [--every MS] [--new-connections]`.
// Goes on until both the count and the time are reached. Prints one JSON line: how many requests were answered with
// which status, the errors, and when the first and the last came (milliseconds since the epoch). Exit 1 if any was not
// 2xx.
import { Agent, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    body: { type: 'string' },
    count: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '0' },
    every: { type: 'string', default: '0' },
    'new-connections': { type: 'boolean', default: false },
  },
})
const url = positionals[0] ?? ''
const agent = new Agent({ keepAlive: !values['new-connections'] })
const statuses: Record<string, number> = {}
const errors: Record<string, number> = {}
let last = ''
let firstErrorAt: number | undefined
let lastErrorAt: number | undefined

const until = performance.now() + Number(values.seconds) * 1000
for (let sent = 0; sent < Number(values.count) || performance.now() < until; sent++) {
  try {
    const { status, body } = await send(values.body)
    statuses[status] = (statuses[status] ?? 0) + 1
    last = body
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error)
    errors[code] = (errors[code] ?? 0) + 1
    lastErrorAt = Date.now()
    firstErrorAt ??= lastErrorAt
  }
  await delay(Number(values.every))
}
agent.destroy()
const failed = Object.keys(errors).length > 0 || Object.keys(statuses).some(status => !status.startsWith('2'))
console.log(JSON.stringify({ url, statuses, errors, firstErrorAt, lastErrorAt, last }))
process.exitCode = failed ? 1 : 0

async function send(body: string | undefined): Promise<{ status: number; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>()
  const method = body === undefined ? 'GET' : 'POST'
  const sending = request(url, { method, agent, timeout: 10_000 }, async response => {
    text(response).then(answer => resolve({ status: response.statusCode ?? 0, body: answer }), reject)
  })
  sending.on('timeout', () => sending.destroy(new Error('timeout')))
  sending.on('error', reject)
  sending.end(body)
  return promise
}
