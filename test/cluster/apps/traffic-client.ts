// Traffic of every kind at once, each at a fixed rate, `traffic-client.ts HOST SECONDS`: requests on one kept connection and
// each on a new one, a TCP connection and an HTTP/2 stream that are kept for the whole time with a message at a time, and
// HTTP/2 calls on a kept connection. Prints one JSON line: of each kind, when each answer was due and how long after that it
// came, and what failed. A time counts from when it was due to be sent: one that is late makes the others wait.
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

type Kind = {
  readonly answers: [at: number, ms: number][]
  readonly failures: { readonly at: number; readonly what: string }[]
}

const PATIENCE_MS = 10_000
const [host = '', seconds = '60'] = process.argv.slice(2)
const until = now() + Number(seconds) * 1000

const kinds: Record<string, Kind> = {}
await Promise.all([
  atRate('kept', 20, inTurn(requester(new Agent({ keepAlive: true, maxSockets: 1 })))),
  atRate('new', 50, requester(new Agent({ keepAlive: false }))),
  atRate('tcp', 20, inTurn(echoing(() => dial()))),
  atRate('stream', 20, inTurn(echoing(openStream))),
  atRate('calls', 20, callers()),
])
// A pipe takes more than it holds only in time, and the kept connections would hold the process.
process.stdout.write(`${JSON.stringify(kinds)}\n`, () => process.exit(0))

/** Milliseconds since 1970, with fractions: answers take a few. */
function now(): number {
  return performance.timeOrigin + performance.now()
}

async function atRate(name: string, everyMs: number, send: () => Promise<void>): Promise<void> {
  const kind: Kind = { answers: [], failures: [] }
  kinds[name] = kind
  const sent: Promise<void>[] = []
  for (let due = now(); due < until; due += everyMs) {
    await delay(due - now())
    const at = due
    const answered = Promise.race([send(), delay(PATIENCE_MS, undefined, { ref: false }).then(late)])
    sent.push(
      answered.then(
        () => void kind.answers.push([Math.round(at), Math.round((now() - at) * 100) / 100]),
        (error: NodeJS.ErrnoException) =>
          void kind.failures.push({ at: Math.round(at), what: error.code ?? String(error) }),
      ),
    )
  }
  await Promise.all(sent)
}

function late(): never {
  throw new Error(`no answer within ${PATIENCE_MS} ms`)
}

/** One message after the other, as on one connection that answers in order. */
function inTurn(send: () => Promise<void>): () => Promise<void> {
  let last: Promise<unknown> = Promise.resolve()
  return () => {
    const next = last.then(send)
    last = next.catch(() => undefined)
    return next
  }
}

function requester(agent: Agent): () => Promise<void> {
  return async () => {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    get(`http://${host}:8080/`, { agent }, answer => {
      if (answer.statusCode === 200) text(answer).then(resolve, reject)
      else reject(new Error(`status ${answer.statusCode}`))
    }).on('error', reject)
    await promise
  }
}

/** A message and its echo on one stream; another stream only after that one has failed. */
function echoing(open: () => Duplex): () => Promise<void> {
  let stream: Duplex | undefined
  let sent = 0
  return async () => {
    stream ??= open().setEncoding('utf8')
    const mine = stream
    const message = `message ${++sent}\n`
    try {
      mine.write(message)
      for (let received = ''; received !== message; ) {
        const [chunk] = await Promise.race([once(mine, 'data'), once(mine, 'end').then(ended)])
        received += chunk
      }
    } catch (thrown) {
      mine.destroy()
      if (stream === mine) stream = undefined
      throw thrown
    }
  }
}

function ended(): never {
  throw new Error('the server ended it')
}

function dial(): Duplex {
  return connect({ host, port: 9000, noDelay: true })
}

function openSession(): ClientHttp2Session {
  return connectHttp2(`http://${host}:9090`).on('error', () => {})
}

function openStream(): Duplex {
  return openSession().request({ ':method': 'POST' }, { endStream: false })
}

function callers(): () => Promise<void> {
  let session = openSession()
  return async () => {
    if (session.destroyed) session = openSession()
    const call = session.request({ ':method': 'POST' })
    call.end('ping')
    const answer = await text(call)
    if (answer !== 'ping') throw new Error(`answered ${JSON.stringify(answer)}`)
  }
}
