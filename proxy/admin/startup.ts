// The answer to the kubelet's start-up probe. Nothing listens on its port: the probe reaches us only through the
// inbound redirect, so that 200 proves interception, and its random path that no application answered by chance.
// Until it succeeds the kubelet starts no application container.
import type { ByteStream } from '../tunnel/byte-stream.ts'

const MAX_HEAD_BYTES = 8 * 1024
const TIMEOUT_MS = 5_000

const REASONS = { 200: 'OK', 400: 'Bad Request', 404: 'Not Found', 503: 'Service Unavailable' } as const
type Status = keyof typeof REASONS

/** What one request head deserves; pure. */
export function startupAnswer(head: string, path: string, ready: boolean): Status {
  const [, target] = /^GET (\S+) HTTP\/1\.[01]\r\n/.exec(head) ?? []
  if (target === undefined) return 400
  if (target !== path) return 404
  return ready ? 200 : 503
}

/** Reads one request of a captured connection, answers it and ends it. */
export function answerStartupProbe(stream: ByteStream, path: string, isReady: () => boolean): void {
  let head = ''
  let isAnswered = false
  const answer = (status: Status) => {
    isAnswered = true
    const text = `HTTP/1.1 ${status} ${REASONS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`
    stream.write(Buffer.from(text))
    stream.end()
  }
  // A deadline, not an idle timeout: anybody in the cluster reaches this, also in strict mode, and might trickle.
  const late = setTimeout(() => stream.reset(), TIMEOUT_MS)
  stream.open({
    borrows: true,
    data: chunk => {
      // What comes behind is read and dropped: unread bytes would turn our answer into a reset.
      if (isAnswered) return
      head += chunk.toString('latin1')
      if (head.includes('\r\n\r\n')) answer(startupAnswer(head, path, isReady()))
      else if (head.length > MAX_HEAD_BYTES) answer(400)
    },
    end: () => stream.end(),
    drain: () => {},
    closed: () => clearTimeout(late),
  })
}
