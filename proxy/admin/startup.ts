// The answer to the kubelet's start-up probe. Nothing listens on its port: the probe reaches us only through the
// inbound redirect, so that 200 proves interception, and its random path that no application answered by chance.
// Until it succeeds the kubelet starts no application container.
import type { Socket } from 'node:net'

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

/** Reads one request from a captured (paused) socket, answers it and ends the connection. */
export function answerStartupProbe(socket: Socket, path: string, isReady: () => boolean): void {
  let head = ''
  const answer = (status: Status) => {
    socket.off('data', read)
    socket.end(`HTTP/1.1 ${status} ${REASONS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`)
    // What the client still sends is read and dropped: unread bytes would turn our answer into a reset.
    socket.resume()
  }
  const read = (chunk: Buffer) => {
    head += chunk.toString('latin1')
    if (head.includes('\r\n\r\n')) answer(startupAnswer(head, path, isReady()))
    else if (head.length > MAX_HEAD_BYTES) answer(400)
  }
  socket.on('data', read)
  socket.on('error', () => socket.destroy())
  socket.once('end', () => socket.end())
  // A deadline, not an idle timeout: anybody in the cluster reaches this, also in strict mode, and might trickle.
  const late = setTimeout(() => socket.destroy(), TIMEOUT_MS)
  socket.once('close', () => clearTimeout(late))
  socket.resume()
}
