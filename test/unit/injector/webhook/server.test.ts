// A real HTTPS server, and whoever might find its port.
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { connect } from 'node:tls'
import t from 'tap'
import type { AdmissionAnswer } from '../../../../injector/webhook/admission.ts'
import { admitPod, type InjectionReport } from '../../../../injector/webhook/pods.ts'
import { webhookRoutes } from '../../../../injector/webhook/routes.ts'
import {
  type AdmissionHandler,
  type ServingCertificate,
  serveWebhook,
  type WebhookOptions,
} from '../../../../injector/webhook/server.ts'
import { live } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { type Authority, createAuthority } from '../../../support/authority.ts'
import { NO_FEDERATION } from '../../../support/federation.ts'
import { greedyCaller } from '../../../support/greedy-caller.ts'
import { CONTEXT, pod } from '../../../support/pods.ts'
import { podReview, policyReview, withPod, withRequest } from './reviews.ts'

const SERVICE = 'postern-injector.postern-system.svc'
const log = createLogger('injector', 'error')
const { mesh, sidecar, version } = CONTEXT
const settings = { mesh, sidecar, version }
const offered = { whyNoPodCertificates: async () => undefined }
const silence = { settings, ...offered, ensureBinding: async () => {}, report: () => {} }
const authority = await createAuthority('webhook')
const certify = async (by: Authority): Promise<ServingCertificate> => {
  const { cert, key } = await by.issue({ commonName: SERVICE, dns: [SERVICE] })
  return { chain: cert, key }
}
const certificate = await certify(authority)

type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly body: string }
type Call = {
  readonly path?: string
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: Buffer | string
  readonly ca?: string
  readonly localAddress?: string
}

function call(
  port: number,
  { path = '/inject/pod', method = 'POST', headers = {}, body = '', ca, localAddress }: Call = {},
) {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const outgoing = request({
    host: '127.0.0.1',
    port,
    path,
    method,
    ca: ca ?? authority.cert,
    servername: SERVICE,
    ...(localAddress && { localAddress }),
    headers: {
      'content-type': 'application/json',
      ...(!('transfer-encoding' in headers) && { 'content-length': String(Buffer.byteLength(body)) }),
      ...headers,
    },
    agent: false,
  })
  outgoing.on('error', reject).on('response', response => {
    const chunks: Buffer[] = []
    response.on('data', chunk => chunks.push(chunk)).on('error', reject)
    response.on('end', () =>
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: Buffer.concat(chunks).toString(),
      }),
    )
  })
  outgoing.end(body)
  return promise
}

const serve = (options: Partial<WebhookOptions> = {}) =>
  serveWebhook({
    port: 0,
    host: '127.0.0.1',
    serving: live(certificate),
    routes: webhookRoutes(silence, NO_FEDERATION),
    isApiServer: () => false,
    log,
    ...options,
  })

const patchOf = ({ body }: Answer): { path: string }[] =>
  JSON.parse(Buffer.from(JSON.parse(body).response.patch ?? 'W10=', 'base64').toString())

t.test('a real review of a pod is answered with a patch, whatever the query says', async t => {
  await using server = await serve()
  const answer = await call(server.port, { path: '/inject/pod?timeout=5s', body: JSON.stringify(podReview) })
  t.equal(answer.status, 200)
  t.match(JSON.parse(answer.body), { response: { uid: podReview.request.uid, allowed: true } })
  t.ok(patchOf(answer).some(({ path }) => path === '/spec/initContainers'))
})

t.test('a real review of a broken policy is answered with its problems', async t => {
  await using server = await serve()
  const { status, body } = await call(server.port, {
    path: '/validate/policy',
    body: JSON.stringify(policyReview),
  })
  t.equal(status, 200)
  t.match(JSON.parse(body), {
    response: { allowed: false, status: { message: /PSTN_POLICY_INVALID: a\.yaml:1:/ } },
  })
})

t.test('a ConfigMap that loses its label is not read as policy', async t => {
  await using server = await serve()
  const body = withRequest({ operation: 'UPDATE', object: { metadata: {}, data: { x: '}' } } }, policyReview)
  t.match(JSON.parse((await call(server.port, { path: '/validate/policy', body })).body), {
    response: { allowed: true },
  })
})

const small = { bodyBytes: 1024 * 1024 }
const refused: readonly { name: string; call: Call; status: number; message: RegExp }[] = [
  { name: 'another path', call: { path: '/' }, status: 404, message: /nothing is served at "\/"/ },
  {
    name: 'a path like ours',
    call: { path: '/inject/pod/../pod' },
    status: 404,
    message: /nothing is served/,
  },
  { name: 'a GET', call: { method: 'GET' }, status: 405, message: /GET is not POST/ },
  {
    name: 'a form',
    call: { headers: { 'content-type': 'text/plain' } },
    status: 415,
    message: /"text\/plain"/,
  },
  {
    name: 'no content type',
    call: { headers: { 'content-type': '' } },
    status: 415,
    message: /content-type/,
  },
  { name: 'garbage', call: { body: Buffer.from([0, 1, 2, 255]) }, status: 400, message: /not UTF-8/ },
  { name: 'nothing', call: {}, status: 400, message: /not JSON/ },
  {
    name: 'a foreign kind',
    call: { body: '{"apiVersion":"v1","kind":"Pod"}' },
    status: 400,
    message: /apiVersion/,
  },
  {
    name: 'a foreign resource',
    call: { body: withRequest({ resource: { group: '', version: 'v1', resource: 'secrets' } }) },
    status: 400,
    message: /v1\/secrets, not v1\/pods/,
  },
  {
    name: 'a pod sent as a policy',
    call: { path: '/validate/policy', body: withRequest({}) },
    status: 400,
    message: /not v1\/configmaps/,
  },
  {
    name: 'a body that is too large',
    call: { body: Buffer.alloc(2 ** 20 + 1, 32) },
    status: 413,
    message: /larger than 1048576/,
  },
  {
    name: 'a large body in chunks',
    call: { body: Buffer.alloc(2 ** 20 + 1, 32), headers: { 'transfer-encoding': 'chunked' } },
    status: 413,
    message: /larger than/,
  },
  {
    name: 'a body that only says how huge it is',
    call: { headers: { 'content-length': '99999999999', expect: '100-continue' } },
    status: 413,
    message: /larger than/,
  },
]
for (const { name, call: sent, status, message } of refused)
  t.test(`${name} is answered with ${status}, code and message`, async t => {
    await using server = await serve({ limits: small })
    const answer = await call(server.port, sent)
    t.equal(answer.status, status)
    t.equal(answer.headers['content-type'], 'application/json')
    t.match(JSON.parse(answer.body), { code: 'PSTN_ADMISSION_MALFORMED', message })
    const next = await call(server.port, { body: JSON.stringify(podReview) })
    t.equal(next.status, 200, 'and the server goes on')
  })

t.test('a body larger than any patience ends the connection', async t => {
  await using server = await serve({ limits: { bodyBytes: 1024 } })
  const body = Buffer.alloc(4 * 1024 * 1024, 32)
  const answer = await call(server.port, { body, headers: { 'transfer-encoding': 'chunked' } }).catch(
    () => undefined,
  )
  t.ok(answer === undefined || answer.status === 413)
})

t.test('plaintext and old TLS get no answer', async t => {
  await using server = await serve()
  const { promise, resolve } = Promise.withResolvers<string>()
  const old = connect({
    port: server.port,
    host: '127.0.0.1',
    ca: authority.cert,
    maxVersion: 'TLSv1.1',
    minVersion: 'TLSv1',
  })
  old.on('error', error => resolve(error.message)).on('secureConnect', () => resolve('connected'))
  t.not(await promise, 'connected')
  t.equal((await call(server.port, { body: JSON.stringify(podReview) })).status, 200)
})

t.test('a request that never ends is cut off', async t => {
  await using server = await serve({ limits: { requestMs: 300 } })
  const started = Date.now()
  const outcome = await call(server.port, { headers: { 'content-length': '100' }, body: '{' }).then(
    ({ status }) => status,
    () => 'closed',
  )
  t.ok(outcome === 408 || outcome === 'closed', String(outcome))
  t.ok(Date.now() - started < 5_000)
})

t.test('a replaced certificate serves the next connection', async t => {
  const next = await createAuthority('next')
  const serving = live(certificate)
  await using server = await serve({ serving })
  serving.set(await certify(next))
  await t.rejects(call(server.port, { body: JSON.stringify(podReview) }))
  t.equal((await call(server.port, { body: JSON.stringify(podReview), ca: next.cert })).status, 200)
})

/** A handler that answers when told to. */
function held() {
  const started = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  const handler: AdmissionHandler = async (): Promise<AdmissionAnswer> => {
    started.resolve()
    await release.promise
    return { kind: 'allow' }
  }
  return { started: started.promise, release: release.resolve, routes: new Map([['/inject/pod', handler]]) }
}

t.test('more reviews at once than allowed are refused with PSTN_LIMIT, and the others answered', async t => {
  const { started, release, routes } = held()
  await using server = await serve({ routes, limits: { concurrent: 1, concurrentReserved: 0 } })
  const first = call(server.port, { body: JSON.stringify(podReview) })
  await started
  const second = await call(server.port, { body: JSON.stringify(podReview) })
  t.equal(second.status, 503)
  t.match(JSON.parse(second.body), { code: 'PSTN_LIMIT' })
  release()
  t.equal((await first).status, 200)
})

t.test('one caller cannot take the connections of the API server, nor its reviews', async t => {
  const { started, release, routes } = held()
  await using server = await serve({ routes, limits: { concurrent: 8, concurrentPerAddress: 4 } })
  const body = JSON.stringify(podReview)
  const mine = Array.from({ length: 4 }, () => call(server.port, { body }))
  await started
  const greedy = await greedyCaller(t, server.port, 600)
  const theirs = call(server.port, { body, localAddress: '127.0.0.2' })
  await new Promise(resolve => setTimeout(resolve, 200))
  t.equal(greedy.open().length, 128 - mine.length)
  release()
  t.equal((await theirs).status, 200)
  for (const { status } of await Promise.all(mine)) t.equal(status, 200)
})

t.test('one caller’s further reviews are refused while another’s are answered', async t => {
  const { started, release, routes } = held()
  await using server = await serve({ routes, limits: { concurrent: 8, concurrentPerAddress: 1 } })
  const body = JSON.stringify(podReview)
  const first = call(server.port, { body })
  await started
  t.equal((await call(server.port, { body })).status, 503)
  const other = call(server.port, { body, localAddress: '127.0.0.2' })
  release()
  t.equal((await other).status, 200)
  t.equal((await first).status, 200)
})

t.test('at the end, the review under way is answered and no other is taken', async t => {
  const { started, release, routes } = held()
  const server = await serve({ routes })
  const first = call(server.port, { body: JSON.stringify(podReview) })
  await started
  const ended = server[Symbol.asyncDispose]()
  await t.rejects(call(server.port, { body: JSON.stringify(podReview) }), { code: 'ECONNREFUSED' })
  release()
  t.equal((await first).status, 200)
  await ended
})

t.test('at the end, a review that never comes back is cut off', async t => {
  const { started, routes } = held()
  const server = await serve({ routes, limits: { drainMs: 50 } })
  const first = call(server.port, { body: JSON.stringify(podReview) })
  await started
  await Promise.all([server[Symbol.asyncDispose](), t.rejects(first)])
})

const review = (parts: Parameters<typeof pod>[0] = {}, change: object = {}) =>
  JSON.parse(withPod(pod(parts), change).toString()).request

async function admitted(
  request: object,
  ensureBinding: (namespace: string) => Promise<void>,
  more: Partial<typeof offered> | { whyNoPodCertificates: () => Promise<string> } = {},
) {
  const reports: InjectionReport[] = []
  const report = (one: InjectionReport) => reports.push(one)
  const admit = admitPod({ settings, optIn: 'pod', ensureBinding, ...offered, ...more, report })
  const parsed = {
    resource: 'v1/pods',
    operation: 'CREATE',
    namespace: 'shop',
    dryRun: false,
    uid: 'u',
    object: {},
  }
  const answer = await admit({ ...parsed, ...request, resource: 'v1/pods' }, AbortSignal.timeout(1000))
  return { answer, report: reports.at(0) }
}

t.test('a binding is made before the pod is let in, and only for a pod that gets a sidecar', async t => {
  const bound: string[] = []
  const bind = async (namespace: string) => {
    bound.push(namespace)
  }
  t.match(await admitted(review(), bind), { answer: { kind: 'allow' }, report: { outcome: 'injected' } })
  t.strictSame(bound, ['shop'])
  await admitted(review({}, { dryRun: true }), bind)
  await admitted(review({ spec: { hostPID: true } }), bind)
  await admitted(review({ annotations: { 'postern.dev/inject': 'disabled' } }), bind)
  t.strictSame(bound, ['shop'])
})

t.test('a pod whose certificate comes from elsewhere needs no binding', async t => {
  const bound: string[] = []
  const annotations = {
    'postern.dev/certificate-source': 'files',
    'postern.dev/certificate-volume': 'certificate',
  }
  const volumes = [{ name: 'certificate', emptyDir: {} }]
  const outcome = await admitted(review({ annotations, spec: { volumes } }), async namespace => {
    bound.push(namespace)
  })
  t.match(outcome, { answer: { kind: 'allow' }, report: { outcome: 'injected' } })
  t.strictSame(bound, [])
})

t.test('a binding that fails refuses the pod and is reported as such', async t => {
  const outcome = await admitted(review(), () => Promise.reject(new Error('forbidden')))
  t.match(outcome, {
    answer: { kind: 'refuse', code: 'PSTN_API_UNAVAILABLE', message: /namespace shop .*forbidden/ },
    report: { outcome: 'refused', code: 'PSTN_API_UNAVAILABLE', namespace: 'shop' },
  })
})

t.test('a skipped pod is let in with a warning', async t => {
  const { answer } = await admitted(
    review({ annotations: { 'postern.dev/inject': 'disabled' } }),
    async () => {},
  )
  t.match(answer, { kind: 'allow', warnings: [/^PSTN_INJECT_SKIPPED: /] })
})

t.test(
  'a pod with its certificate in a volume is let in where the kubelet would get one, and asks for no right',
  async t => {
    const volume = review({ annotations: { 'postern.dev/certificate-source': 'pod-certificate' } })
    const bound: string[] = []
    const bind = async (namespace: string) => {
      bound.push(namespace)
    }
    t.match(await admitted(volume, bind), { answer: { kind: 'allow' }, report: { outcome: 'injected' } })
    t.strictSame(bound, [])
    const refusal = async (whyNoPodCertificates: () => Promise<string>) =>
      (await admitted(volume, bind, { whyNoPodCertificates })).answer
    t.match(await refusal(async () => 'this cluster has none'), {
      kind: 'refuse',
      code: 'PSTN_INJECT_REFUSED',
      message:
        'postern.dev/certificate-source: pod-certificate: this cluster has none; leave the annotation out',
    })
    t.match(await refusal(() => Promise.reject(new Error('down'))), {
      kind: 'refuse',
      code: 'PSTN_API_UNAVAILABLE',
      message: /not known .*: down; try again/,
    })
    const other = async () => 'not asked'
    t.match(await admitted(review(), bind, { whyNoPodCertificates: other }), { answer: { kind: 'allow' } })
  },
)

t.test('a caller that is alone has its place, however many others there are', async t => {
  const { started, release, routes } = held()
  const limits = { concurrent: 2, concurrentReserved: 1 }
  await using server = await serve({ routes, limits })
  const body = JSON.stringify(podReview)
  const from = (localAddress: string) => call(server.port, { body, localAddress })
  const greedy = ['127.0.0.2', '127.0.0.3'].map(from)
  await started
  await new Promise(resolve => setTimeout(resolve, 100))
  t.equal((await from('127.0.0.2')).status, 503, 'more than its place is not to be had')
  const alone = from('127.0.0.1')
  await new Promise(resolve => setTimeout(resolve, 100))
  release()
  t.equal((await alone).status, 200)
  t.same(new Set((await Promise.all(greedy)).map(({ status }) => status)), new Set([200]))
})

t.test(
  'an API server that is known by its address is answered, however many strangers there are',
  async t => {
    const limits = { concurrent: 2, concurrentReserved: 0 }
    for (const [isKnown, status] of [
      [true, 200],
      [false, 503],
    ] as const) {
      const { started, release, routes } = held()
      const seen: string[] = []
      const isApiServer = (address: string) => isKnown && address === '127.0.0.1'
      const onReview = (caller: string) => seen.push(caller)
      await using server = await serve({ routes, limits, isApiServer, onReview })
      const body = JSON.stringify(podReview)
      const strangers = ['127.0.0.2', '127.0.0.3'].map(localAddress =>
        call(server.port, { body, localAddress }),
      )
      await started
      await new Promise(resolve => setTimeout(resolve, 100))
      const own = call(server.port, { body })
      await new Promise(resolve => setTimeout(resolve, 100))
      release()
      t.equal((await own).status, status)
      await Promise.all(strangers)
      t.strictSame(seen, ['other', 'other', isKnown ? 'api-server' : 'other'])
    }
  },
)

t.test('who creates objects in one namespace does not keep the others out', async t => {
  const { started, release, routes } = held()
  await using server = await serve({ routes, limits: { concurrentPerNamespace: 2 } })
  const about = (namespace: string) => call(server.port, { body: withRequest({ namespace }, podReview) })
  const noisy = [about('noisy'), about('noisy')]
  await started
  await new Promise(resolve => setTimeout(resolve, 100))
  t.match(await about('noisy'), { status: 503, body: /PSTN_LIMIT/ })
  const quiet = about('quiet')
  release()
  t.equal((await quiet).status, 200)
  for (const { status } of await Promise.all(noisy)) t.equal(status, 200)
})

t.test('what one caller lets be held in bodies is bounded, and given back', async t => {
  const { started, release, routes } = held()
  const limits = { heldBytesPerAddress: 300_000, heldBytes: 400_000 }
  await using server = await serve({ routes, limits })
  const body = JSON.stringify({ ...podReview, padding: 'x'.repeat(200_000) })
  const first = call(server.port, { body })
  await started
  t.match(await call(server.port, { body }), { status: 503, body: /PSTN_LIMIT.*bytes/ })
  t.match(await call(server.port, { body, localAddress: '127.0.0.2' }), { status: 503 }, 'nor all together')
  release()
  t.equal((await first).status, 200)
  t.equal((await call(server.port, { body })).status, 200)
})

t.test(
  'a flood of reviews that are legal and expensive stops neither the process nor the API server’s own',
  async t => {
    await using server = await serve()
    const expensive = withRequest(
      {
        object: {
          metadata: { labels: { 'postern.dev/policy': 'true' } },
          data: { a: `a: [${'[],'.repeat(8_000)}]` },
        },
      },
      policyReview,
    )
    let [longest, last] = [0, performance.now()]
    const beat = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 10)
    t.teardown(() => clearInterval(beat))
    const flood = ['127.0.0.2', '127.0.0.3'].flatMap(localAddress =>
      Array.from({ length: 8 }, () =>
        call(server.port, { path: '/validate/policy', body: expensive, localAddress }),
      ),
    )
    await flood[0]
    const started = performance.now()
    t.equal((await call(server.port, { body: JSON.stringify(podReview) })).status, 200)
    const own = performance.now() - started
    const answers = await Promise.all(flood)
    t.same(new Set(answers.map(({ status }) => status)), new Set([200]))
    const all = performance.now() - started
    t.ok(own < all / 2, `${Math.round(own)} ms of ${Math.round(all)}`)
    t.ok(longest < 1_000, `${Math.round(longest)} ms without a heartbeat`)
    t.comment(
      `the API server’s own review: ${Math.round(own)} ms; the flood: ${Math.round(all)} ms; nothing else for ${Math.round(longest)} ms`,
    )
  },
)

t.test(
  'what costs much for nothing is refused before: thousands of files, or of unknown annotations',
  async t => {
    await using server = await serve()
    const files = Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`f${n}`, 'a: 1']))
    const object = { metadata: { labels: { 'postern.dev/policy': 'true' } }, data: files }
    const keys = Object.fromEntries(Array.from({ length: 9_000 }, (_, n) => [`postern.dev/x${n}`, 'y']))
    const started = performance.now()
    const policy = await call(server.port, {
      path: '/validate/policy',
      body: withRequest({ object }, policyReview),
    })
    t.match(policy.body, /has 20000 files, more than 500/)
    const annotated = withPod(pod({ annotations: { 'postern.dev/inject': 'enabled', ...keys } }))
    t.match((await call(server.port, { body: annotated })).body, /unknown annotation/)
    t.ok(performance.now() - started < 1_500, `${Math.round(performance.now() - started)} ms`)
  },
)
