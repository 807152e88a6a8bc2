// The three endpoints that a sidecar uses, over real HTTP, answering as a test tells them to: outages, denials and
// wrong certificates cannot be had from an honest API server. What the real one does is tested in test/kube.
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connectKube, type Kube, KubeError } from '../../shared/kube/rest.ts'

export type StoredCsr = {
  metadata: { name: string }
  spec: {
    request: string
    signerName: string
    expirationSeconds: number
    usages: string[]
    username?: string
    extra?: Record<string, string[]>
  }
  status?: { conditions?: { type: string; reason?: string; message?: string }[]; certificate?: string }
}

export type ScriptedApi = AsyncDisposable & {
  readonly kube: Kube
  readonly requests: Map<string, StoredCsr>
  /** Names that were created here, in order. */
  readonly created: string[]
  /** Runs at each GET of a request that has no status yet; what it throws is the answer to the call. */
  answer: (csr: StoredCsr) => Promise<StoredCsr['status']>
  trust: Record<string, string>
  /** Set: every call fails with this status. */
  outage: { status: number; message: string } | undefined
  /** What its clock says: the `Date` of its answers. */
  now: () => number
}

export async function scriptedApi({
  username,
  podUid,
  onDate,
}: {
  username: string
  podUid: string
  onDate?: (date: string) => void
}): Promise<ScriptedApi> {
  const server = createServer((request, response) => {
    reply(request)
      .catch(error => ({
        status: error instanceof KubeError ? error.status : 500,
        body: { message: String(error) },
      }))
      .then(({ status, body }) => {
        response.writeHead(status, { date: new Date(api.now()).toUTCString() }).end(JSON.stringify(body))
      })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const kube = connectKube({
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token: 'x',
    ...(onDate && { onDate }),
  })

  const api: ScriptedApi = {
    kube,
    requests: new Map(),
    created: [],
    answer: async () => undefined,
    trust: {},
    outage: undefined,
    now: Date.now,
    [Symbol.asyncDispose]: async () => {
      kube[Symbol.dispose]()
      server.closeAllConnections()
      server.close()
    },
  }

  async function reply(request: IncomingMessage): Promise<{ status: number; body: unknown }> {
    if (api.outage) return { status: api.outage.status, body: { message: api.outage.message } }
    const path = request.url ?? ''
    if (path === '/api/v1/namespaces/postern-system/configmaps/postern-trust') {
      return { status: 200, body: { data: api.trust } }
    }
    if (request.method === 'POST') return create(JSON.parse(await textOf(request)))
    const csr = api.requests.get(path.split('/').at(-1) ?? '')
    if (!csr) return { status: 404, body: { message: 'not found' } }
    const status = csr.status ?? (await api.answer(csr))
    if (status) csr.status = status
    return { status: 200, body: csr }
  }

  function create(csr: StoredCsr): { status: number; body: unknown } {
    const { name } = csr.metadata
    if (api.requests.has(name)) return { status: 409, body: { message: `${name} already exists` } }
    const extra = { 'authentication.kubernetes.io/pod-uid': [podUid] }
    api.requests.set(name, { ...csr, spec: { ...csr.spec, username, extra } })
    api.created.push(name)
    return { status: 201, body: api.requests.get(name) }
  }

  return api
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}
