// HTTP of an application in a pod: every body is made from its request's id on both ends, so that none can be another's.
import { once } from 'node:events'
import { Agent, createServer, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { seededBytes } from './seeded-bytes.ts'

export type Requests = {
  readonly host: string
  readonly port: number
  readonly count: number
  /** Connections that are kept alive. */
  readonly connections: number
  readonly bytes: number
}

const TIMEOUT_MS = 30_000
let requests = 0

export const httpOperations = {
  /** Answers `/ID/BYTES` with so many bytes of the stream of that id. */
  async serveHttp({ port }: { port: number }): Promise<void> {
    const server = createServer((incoming, response) => {
      const [, id = '', bytes = '0'] = (incoming.url ?? '').split('/')
      incoming.resume()
      response.end(seededBytes(id).take(Number(bytes)))
    })
    await once(server.listen(port, '::'), 'listening')
  },

  /** Counts the requests by what came of them: `200` if the body was right. */
  async requestMany({ host, port, count, connections, bytes }: Requests): Promise<Record<string, number>> {
    const agent = new Agent({ keepAlive: true, maxSockets: connections })
    const counts: Record<string, number> = {}
    let left = count
    const worker = async () => {
      while (left-- > 0) {
        const id = `${++requests}`
        const outcome = await get({ host, port, agent, path: `/${id}/${bytes}` }, seededBytes(id).take(bytes))
        counts[outcome] = (counts[outcome] ?? 0) + 1
      }
    }
    await Promise.all(Array.from({ length: connections }, worker))
    agent.destroy()
    return counts
  },
}

async function get(options: object, expected: Buffer): Promise<string> {
  try {
    const sent = request({ ...options, timeout: TIMEOUT_MS })
    sent.on('timeout', () => sent.destroy(new Error('timeout')))
    sent.end()
    const [response] = await once(sent, 'response')
    const body = await buffer(response)
    return body.equals(expected) ? String(response.statusCode) : `${response.statusCode} with a wrong body`
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown ? String(thrown.code) : String(thrown)
  }
}
