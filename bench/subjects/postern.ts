// Postern whole: interception by its own init container, certificates from its own CA, the directory, a policy that names
// the caller, metrics, and the default access log.
import { POD_ANNOTATIONS } from '../../shared/injection/annotations.ts'
import { KUBE_NAMESPACE } from '../mesh.ts'
import { BACKENDS, createPlace } from '../stage.ts'
import { type Context, Missing, type Running, type Subject } from '../subject.ts'

let started = 0

export const posternL4: Subject = {
  name: 'postern-l4',
  describe: () =>
    'nft interception, tunnel, directory, an ALLOW policy on identity and port, metrics, access log',
  start: context => startPair(context, 'l4', { ports: '["8080", "8081", "8082"]' }),
}

export const posternHttp: Subject = {
  name: 'postern-http',
  describe: () =>
    'as postern-l4, and the ports are declared HTTP: each request is authorized by method and path',
  start: async context => {
    const keys: readonly string[] = Object.values(POD_ANNOTATIONS).map(({ key }) => key)
    const declared = {
      'postern.dev/http-ports': `${BACKENDS.web},${BACKENDS.raw}`,
      'postern.dev/http2-ports': String(BACKENDS.http2),
    }
    if (!Object.keys(declared).every(key => keys.includes(key)))
      throw new Missing(
        'this version has no request gate: shared/injection/annotations.ts does not know http-ports',
      )
    const operation = { methods: '["GET", "POST", "PUT"]', paths: '["/*"]' }
    return startPair(context, 'http', operation, declared)
  },
}

async function startPair(
  { network, mesh, directory }: Context,
  kind: string,
  operation: Record<string, string>,
  annotations: Record<string, string> = {},
): Promise<Running> {
  const name = `${kind}${started++}`
  const [client, server] = [`${name}-client`, `${name}-server`]
  const place = await createPlace(network, name, directory)
  const { setPolicy, startPod } = await mesh()
  setPolicy(name, policy(server, client, operation))
  await using stack = new AsyncDisposableStack()
  const serverPod = stack.use(await startPod({ name: server, namespace: place.server, annotations }))
  const clientPod = stack.use(await startPod({ name: client, namespace: place.client }))
  const lifetime = stack.move()
  return {
    place,
    address: backend => ({ host: place.server.ipv4 ?? '', port: BACKENDS[backend] }),
    proxies: [clientPod.pid, serverPod.pid],
    // Streams of one tunnel share its socket.
    filesPerStream: 1,
    readyMs: Math.max(clientPod.readyMs, serverPod.readyMs),
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

const policy = (server: string, client: string, operation: Record<string, string>) => `
apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: ${server}}
spec:
  selector: {matchLabels: {app: ${server}}}
  action: ALLOW
  rules:
  - from: [{source: {principals: ["cluster.local/ns/${KUBE_NAMESPACE}/sa/${client}"]}}]
    to: [{operation: {${Object.entries(operation).map(([key, value]) => `${key}: ${value}`)}}}]
`
