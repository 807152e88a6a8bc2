// Runs in a sidecar's container, fed to its Node on stdin: asks another pod's tunnel for streams as a peer with a valid
// certificate, or with none, could. Prints one line of JSON: per authority the status, the code, and the start of what came back.
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'

type Answer = { status: number | string; code?: string; body: string }

const [host = '', credentials = '', ...authorities] = process.argv.slice(2)
const kept = credentials === 'none' ? {} : JSON.parse(readFileSync('/run/postern/credential.json', 'utf8'))
const session = connect(`https://${host}:15008`, {
  ...('key' in kept && { key: kept.key, cert: kept.chain }),
  rejectUnauthorized: false,
  ALPNProtocols: ['h2'],
})
let goaway: string | undefined
session.on('goaway', (_code, _last, opaque) => {
  goaway = opaque?.toString()
})
session.on('error', () => {})

const answers: Record<string, Answer> = {}
for (const authority of authorities) answers[authority] = await ask(authority)
session.destroy()
console.log(JSON.stringify({ answers, goaway }))

async function ask(authority: string): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>()
  const failed = (why: string) => resolve({ status: why, body: '' })
  if (session.destroyed) return { status: 'the session has ended', body: '' }
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority })
  let body = ''
  stream.on('error', error => failed(error.message))
  stream.on('close', () => failed('closed'))
  stream.setTimeout(5_000, () => failed('timeout'))
  stream.on('response', headers => {
    const status = headers[':status'] ?? 0
    const code = headers['postern-code']
    if (status !== 200) return resolve({ status, body, ...(code && { code: String(code) }) })
    stream.on('data', chunk => {
      body += chunk
    })
    stream.on('end', () => resolve({ status, body: body.slice(0, 100) }))
    stream.end(`GET /relayed HTTP/1.1\r\nhost: ${authority}\r\nconnection: close\r\n\r\n`)
  })
  return promise
}
