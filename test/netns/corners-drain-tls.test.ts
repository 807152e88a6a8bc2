// The end of a sidecar under callers that have none themselves: those whose TLS it ends, those in plaintext, and those whose TLS
// is the application's own. What has begun goes on to its end, and nothing begins.
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { POLICY_LABEL } from '../../shared/names.ts'
import { until } from '../kube/support/installation.ts'
import { testAuthority } from '../support/certificates.ts'
import { memoryVolume } from '../support/memory-volume.ts'
import { type RunningPod, terminate } from '../support/namespace-kubelet.ts'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, MESH_NAMESPACE, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING } from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type CallerOptions, call, fromFiles } from '../support/tls-callers.ts'

const [MUTUAL, SERVER, HTTP, PLAIN, ITS_OWN] = [8443, 8444, 8445, 7000, 9443]
const DRAIN_SECONDS = 3
const BYTES = 5_000_000
const ANSWER: Script = [
  { do: 'receive', bytes: 1 },
  { do: 'send', bytes: 1 },
  { do: 'receive', bytes: BYTES },
  { do: 'send', bytes: BYTES },
  { do: 'receiveEnd' },
  { do: 'end' },
]
const MORE: Script = [
  { do: 'send', bytes: BYTES },
  { do: 'receive', bytes: BYTES },
]
const TALK: Script = [...PING, ...MORE, ...CLOSE]
const STAYS: Script = [...PING, { do: 'gate', name: 'draining' }, ...MORE, ...CLOSE]
const HELD: Script = [...PING, { do: 'receiveReset' }]

const tlsPorts = {
  apiVersion: 'policy.postern.dev/v1',
  kind: 'PeerAuthentication',
  metadata: { name: 'tls' },
  spec: {
    selector: { matchLabels: { tls: 'ports' } },
    portLevelTls: { [MUTUAL]: { mode: 'MUTUAL' }, [SERVER]: { mode: 'SERVER' }, [HTTP]: { mode: 'MUTUAL' } },
  },
}
/** Later than a drain begins. */
const SLOW_MS = 1_500
const WEB = `
import { createServer } from 'node:http'
createServer({ keepAliveTimeout: 0 }, ({ url }, response) => {
  setTimeout(() => response.end(url), url === '/slow' ? ${SLOW_MS} : 0)
}).listen(${HTTP}, '::')
`

t.test(
  'the end of a sidecar with callers that have none',
  { skip: requireNetns() || requireApiServer() },
  async t => {
    await using stack = new AsyncDisposableStack()
    const mesh = await startMesh(t, stack)
    const files = memoryVolume(t)
    const own = await testAuthority('the application')
    const { key, chain: cert } = await own.issue({ uris: [], dns: ['orders'] })
    const start = async (name: string, annotations: Record<string, string> = {}) => {
      const more = { 'postern.dev/http-ports': `${HTTP}`, ...annotations }
      const pod = await mesh.start(name, { labels: { tls: 'ports' }, annotations: more })
      const application = await startApplication(pod.namespace)
      for (const port of [MUTUAL, SERVER, PLAIN])
        await application.serve({ port, meet: true, script: ANSWER })
      await application.serve({ port: ITS_OWN, meet: true, script: ANSWER, tls: { key, cert } })
      return { pod, application }
    }
    const [patient, hasty, http, web] = await Promise.all([
      start('patient'),
      start('hasty', { 'postern.dev/drain-seconds': String(DRAIN_SECONDS) }),
      start('http'),
      start('web'),
      mesh.start('job', {
        annotations: { 'postern.dev/cert-files': 'app' },
        volumes: { 'postern-cert-files': files },
      }),
    ])
    await mesh.kube.create(`/api/v1/namespaces/${MESH_NAMESPACE}/configmaps`, {
      metadata: { name: 'tls', labels: { [POLICY_LABEL]: 'true' } },
      data: { 'tls.yaml': JSON.stringify(tlsPorts) },
    })
    const job = fromFiles(files)
    /** Each way in, and how one speaks there. */
    const ways: readonly (readonly [name: string, port: number, tls: CallerOptions['tls']])[] = [
      ['TLS with a certificate', MUTUAL, job],
      ['TLS without one', SERVER, { ca: job.ca }],
      ['plaintext', PLAIN, undefined],
      ['TLS of the application’s own', ITS_OWN, { ca: own.root }],
    ]
    let introduced = 0
    const dial = (
      { ipv4: host }: RunningPod,
      [, port, tls]: (typeof ways)[number],
      script: Script,
      gate?: Promise<void>,
    ) => call({ host, port }, { script, tls, introduce: ++introduced, ...(gate && { gate }) })
    const hold = async (pod: RunningPod, script: Script, gate?: Promise<void>) => {
      const held = ways.map(way => dial(pod, way, script, gate))
      await until(async () => held.every(({ progress }) => progress().received === 1))
      return held
    }
    for (const { pod } of [patient, hasty, http, web])
      for (const way of ways) await until(async () => isWhole(await dial(pod, way, TALK).transcript))

    await t.test('what is open goes on to its end, in both directions, and nobody new comes in', async t => {
      const { pod } = patient
      const over = Promise.withResolvers<void>()
      const held = await hold(pod, STAYS, over.promise)
      const exited = terminate(pod)
      await pod.line(({ msg }) => msg === 'draining')
      for (const way of ways) {
        const saw = await dial(pod, way, TALK).transcript
        t.match(saw, { error: /ECONNREFUSED|ECONNRESET|EPIPE/, received: 0 }, `new: ${way[0]}`)
      }
      t.equal(pod.sidecar.exitCode, null)
      over.resolve()
      for (const [index, { transcript }] of held.entries()) {
        const saw = await transcript
        t.ok(isWhole(saw) && saw.ended, `${ways[index]?.[0]}: ${JSON.stringify(saw)}`)
      }
      t.match(await exited, { status: 0 })
    })

    await t.test('when the time to drain is over, what is still open is reset at every end', async t => {
      const { pod, application } = hasty
      for (const [, port] of ways) await application.settled({ port })
      const held = await hold(pod, HELD)
      const { status, ms } = await terminate(pod)
      t.equal(status, 0)
      t.ok(ms >= DRAIN_SECONDS * 1_000 && ms < DRAIN_SECONDS * 1_000 + 2_000, `after ${Math.round(ms)} ms`)
      for (const [index, { transcript }] of held.entries())
        t.ok((await transcript).reset, `${ways[index]?.[0]}`)
      for (const [name, port] of ways) {
        const [saw] = await application.settled({ port })
        t.match(saw ?? {}, { error: 'ECONNRESET', ended: false }, `the application’s end: ${name}`)
      }
      for (const via of ['tls', 'tls-anonymous', 'plaintext'])
        await pod.line(isConnection({ direction: 'inbound', via, outcome: 'closed', code: 'PSTN_DRAINING' }))
    })

    await t.test(
      'on a port that speaks HTTP an answer under way is the last, and idle connections end in order',
      async t => {
        const { pod } = http
        const module = join(scratchDirectory(t), 'web.mjs')
        writeFileSync(module, WEB)
        pod.namespace.spawn(process.execPath, [module], { uid: 1000, stdio: ['ignore', 'ignore', 'inherit'] })
        const agent = new Agent({ ...job, keepAlive: true, checkServerIdentity: () => undefined })
        const ask = async (path: string) => {
          const asked = request({ host: pod.ipv4, port: HTTP, path, agent }).end()
          const [answer] = await once(asked, 'response')
          return { connection: answer.headers.connection, body: await text(answer), socket: asked.socket }
        }
        await until(async () =>
          ask('/now').then(
            ({ body }) => body === '/now',
            () => false,
          ),
        )
        const slow = ask('/slow')
        const idle = (await ask('/now')).socket
        const closed = idle && once(idle, 'close')
        const exited = terminate(pod)
        t.same(await closed, [false])
        t.match(await slow, { connection: 'close', body: '/slow' })
        const { status, ms } = await exited
        t.equal(status, 0)
        t.ok(ms < SLOW_MS + 2_000, `after ${Math.round(ms)} ms`)
        await t.rejects(ask('/now'), 'nobody new')
        agent.destroy()
      },
    )

    await t.test(
      'a handshake may still be made on what had come in, and one that is not holds the end up for five seconds at most',
      async t => {
        const { pod } = web
        const raw = async () => {
          const socket = connect({ host: pod.ipv4, port: MUTUAL })
          await once(
            socket.on('error', () => {}),
            'connect',
          )
          return socket
        }
        const [late, never] = await Promise.all([raw(), raw()])
        const exited = terminate(pod)
        await pod.line(({ msg }) => msg === 'draining')
        const served = call({ socket: late }, { script: TALK, tls: job, introduce: ++introduced })
        const cut = new Promise<void>(resolve => never.resume().once('close', () => resolve()))
        t.ok(isWhole(await served.transcript))
        const { status, ms } = await exited
        t.equal(status, 0)
        t.ok(ms < 6_000, `after ${Math.round(ms)} ms`)
        await cut
      },
    )
  },
)
