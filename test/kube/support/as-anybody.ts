// Requests in anybody's name: an administrator impersonates the user that a case describes, so that the API server
// itself vouches for names, groups and extra fields that no token of a test cluster would carry.
import { Agent, request as httpsRequest } from 'node:https'
import type { KubeEndpoint } from '../../../shared/kube/rest.ts'

export type User = {
  readonly username: string
  readonly groups: readonly string[]
  readonly extra: Readonly<Record<string, readonly string[]>>
}

/** `message` is the API server's, or the text it answered. */
export type Answer =
  | { readonly kind: 'created'; readonly object: unknown }
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }

export type Anybody = Disposable & {
  /** POSTs the body; `'nobody'` sends no credentials, a string after it a bearer token. */
  create(path: string, body: object, as: User | { readonly token: string } | 'nobody'): Promise<Answer>
}

export function asAnybody({ server, ca, clientCertificate }: KubeEndpoint): Anybody {
  const options = { keepAlive: true, ...(ca !== undefined && { ca }) }
  const administrator = new Agent({ ...options, ...clientCertificate })
  const stranger = new Agent(options)
  return {
    create: (path, body, as) => {
      const impersonates = typeof as === 'object' && 'username' in as
      const headers = impersonates ? impersonation(as) : bearer(as)
      return post(new URL(path, server), body, headers, impersonates ? administrator : stranger)
    },
    [Symbol.dispose]: () => {
      administrator.destroy()
      stranger.destroy()
    },
  }
}

type Headers = Readonly<Record<string, string | string[]>>

const impersonation = ({ username, groups, extra }: User): Headers => ({
  'Impersonate-User': username,
  'Impersonate-Group': [...groups],
  ...Object.fromEntries(
    Object.entries(extra).map(([key, values]) => [
      `Impersonate-Extra-${encodeURIComponent(key)}`,
      [...values],
    ]),
  ),
})

const bearer = (as: { readonly token: string } | 'nobody'): Headers =>
  as === 'nobody' ? {} : { authorization: `Bearer ${as.token}` }

function post(url: URL, body: object, headers: Headers, agent: Agent): Promise<Answer> {
  const payload = Buffer.from(JSON.stringify(body))
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const request = httpsRequest(
    url,
    {
      method: 'POST',
      agent,
      headers: { ...headers, 'content-type': 'application/json', 'content-length': payload.length },
    },
    async response => {
      try {
        const text = (await response.toArray()).join('')
        resolve(answerOf(response.statusCode ?? 0, text))
      } catch (error) {
        reject(error)
      }
    },
  )
  request.on('error', reject)
  request.end(payload)
  return promise
}

function answerOf(status: number, text: string): Answer {
  const body: unknown = /^\{/.test(text) ? JSON.parse(text) : undefined
  if (status < 400) return { kind: 'created', object: body }
  const told = typeof body === 'object' && body !== null && 'message' in body ? body.message : text
  return { kind: 'refused', status, message: String(told) }
}
