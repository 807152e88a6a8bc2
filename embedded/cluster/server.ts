// The embedded cluster's API server: HTTP on loopback, the verbs and resources that sidecar and injector use, and nothing
// else. One contract suite (test/contract) runs against it and against a real API server.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Access, checkRequestName, createAccess, type User } from './access.ts'
import { admitPod } from './admission.ts'
import { jsonPatch, mergePatch, type Operation } from './patch.ts'
import { vouchedRequest, withApproval, withStatus } from './requests.ts'
import { apiVersion, parsePath, type Target } from './resources.ts'
import { createStore, type KubeObject, Refusal, type Store } from './store.ts'
import { selects, serveWatch } from './watch.ts'

export type EmbeddedCluster = AsyncDisposable & {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  readonly store: Store
  readonly access: Access
}

const MAX_BODY_BYTES = 3 * 1024 * 1024

export type EmbeddedClusterOptions = {
  /** False takes the right to approve from everybody, for the demo's own test. */
  readonly mayApprove?: boolean
}

export async function startEmbeddedCluster({
  mayApprove = true,
}: EmbeddedClusterOptions = {}): Promise<EmbeddedCluster> {
  const store = createStore()
  const access = createAccess(store, mayApprove)
  const server = createServer((request, response) => {
    void answer(store, access, request, response).catch(error => respondError(response, error))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, store, access, [Symbol.asyncDispose]: () => close(server) }
}

function close(server: Server): Promise<void> {
  server.closeAllConnections()
  return new Promise(resolve => server.close(() => resolve()))
}

type Call = {
  readonly target: Target
  readonly user: User
  readonly query: URLSearchParams
  readonly method: string
}

async function answer(
  store: Store,
  access: Access,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://embedded')
  const user = access.authenticate(request.headers.authorization)
  const target = parsePath(url.pathname)
  if (!target) throw new Refusal(404, 'NotFound', 'the server could not find the requested resource')
  const call: Call = { target, user, query: url.searchParams, method: request.method ?? 'GET' }
  const verb = verbOf(call)
  access.authorize(user, verb, target)
  if (verb === 'watch') return serveWatch(store, target, url.searchParams, response)
  const body = call.method === 'GET' ? undefined : parseBody(await readBody(request))
  const result = await perform(store, access, call, verb, body, request.headers['content-type'] ?? '')
  respond(response, call.method === 'POST' ? 201 : 200, result)
}

function verbOf({ method, target, query }: Call): string {
  if (method === 'GET' && target.name) return 'get'
  if (method === 'GET') return ['1', 'true'].includes(query.get('watch') ?? '') ? 'watch' : 'list'
  const verbs: Record<string, string> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }
  const verb = verbs[method]
  if (!verb) throw new Refusal(405, 'MethodNotAllowed', `the server does not allow ${method} here`)
  return verb
}

async function perform(
  store: Store,
  access: Access,
  call: Call,
  verb: string,
  body: KubeObject | undefined,
  type: string,
): Promise<unknown> {
  const { target, query } = call
  const { plural } = target.resource
  const name = target.name ?? ''
  switch (verb) {
    case 'list': {
      const items = store.list(plural).filter(object => selects(target, query, object))
      const { kind } = target.resource
      return {
        kind: `${kind}List`,
        apiVersion: apiVersion(target.resource),
        metadata: { resourceVersion: String(store.version()) },
        items,
      }
    }
    case 'get':
      return typed(target, store.get(plural, target.namespace, name))
    case 'create':
      if (target.subresource === 'token') return createToken(store, access, target, body)
      return typed(target, await create(store, call, required(body)))
    case 'update':
      return typed(target, update(store, call, store.get(plural, target.namespace, name), required(body)))
    case 'patch': {
      const present = store.get(plural, target.namespace, name)
      return typed(target, update(store, call, present, patched(present, body, type)))
    }
    default:
      return typed(target, store.delete(plural, target.namespace, name))
  }
}

async function create(store: Store, { target, user, query }: Call, body: KubeObject): Promise<KubeObject> {
  const { plural } = target.resource
  let object: KubeObject = {
    ...body,
    metadata: { ...body.metadata, ...(target.namespace && { namespace: target.namespace }) },
  }
  const dryRun = query.get('dryRun') === 'All'
  if (plural === 'certificatesigningrequests') {
    checkRequestName(user, object.metadata.name ?? '')
    object = vouchedRequest(object, user)
  }
  if (plural === 'pods') object = await admitPod(store, object, user, dryRun)
  return dryRun ? object : store.create(plural, object)
}

function update(store: Store, { target }: Call, present: KubeObject, body: KubeObject): KubeObject {
  const { plural } = target.resource
  const merged: KubeObject = { ...body, metadata: { ...present.metadata, ...body.metadata } }
  if (target.subresource === 'approval') return store.replace(plural, withApproval(present, merged))
  if (target.subresource === 'status' && plural === 'certificatesigningrequests')
    return store.replace(plural, withStatus(present, merged))
  if (target.subresource === 'status')
    return store.replace(plural, { ...present, metadata: merged.metadata, status: merged.status })
  return store.replace(plural, present.status === undefined ? merged : { ...merged, status: present.status })
}

function patched(present: KubeObject, patch: unknown, type: string): KubeObject {
  type Json = Parameters<typeof jsonPatch>[0]
  if (type.startsWith('application/merge-patch+json'))
    return mergePatch(present as Json, patch as Json) as KubeObject
  if (type.startsWith('application/json-patch+json'))
    return jsonPatch(present as Json, patch as Operation[]) as KubeObject
  throw new Refusal(415, 'UnsupportedMediaType', `the embedded cluster does not know ${type}`)
}

function createToken(
  store: Store,
  access: Access,
  { namespace = '', name = '' }: Target,
  body: unknown,
): unknown {
  const { spec } = (body ?? {}) as { spec?: { boundObjectRef?: { name: string; uid?: string } } }
  const bound = spec?.boundObjectRef
  const pod = bound && store.get('pods', namespace, bound.name)
  if (pod && bound.uid !== undefined && bound.uid !== pod.metadata.uid)
    throw new Refusal(409, 'Conflict', `the UID in the bound object reference (${bound.uid}) does not match`)
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: {},
    status: { token: access.issueToken(namespace, name, pod) },
  }
}

const typed = ({ resource }: Target, object: KubeObject) => ({
  kind: resource.kind,
  apiVersion: apiVersion(resource),
  ...object,
})

function required(body: KubeObject | undefined): KubeObject {
  if (!body?.metadata) throw new Refusal(400, 'BadRequest', 'the body has no metadata')
  return body
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) throw new Refusal(413, 'RequestEntityTooLarge', 'the body is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function parseBody(text: string): KubeObject | undefined {
  if (text === '') return undefined
  try {
    return JSON.parse(text) as KubeObject
  } catch {
    throw new Refusal(400, 'BadRequest', 'the body is not JSON')
  }
}

function respond(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function respondError(response: ServerResponse, error: unknown): void {
  const refusal = error instanceof Refusal ? error : new Refusal(500, 'InternalError', String(error))
  if (response.headersSent) response.destroy()
  else respond(response, refusal.code, refusal.status())
}
