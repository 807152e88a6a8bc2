// A sidecar leads to its own pod's application and nowhere else, whoever asks: a pod without a certificate, a neighbour
// with a valid one, or a host that routes somebody else's address to the pod.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { PROXY_CONTAINER } from '../../shared/names.ts'
import { PORTS } from '../../shared/ports.ts'
import { requireCluster } from '../support/requirements.ts'
import { banner, http } from './applications.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { appPod, checked, INJECTED, logs, populate } from './pods.ts'
import { installPostern } from './postern.ts'
import { NODE_ADDRESS } from './sandbox.ts'
import { addressOf, type LogLine, sidecarLog } from './sidecar.ts'

const skip = requireCluster()
const NS = 'relay'
/** RFC 5737: nobody's. */
const ELSEWHERE = '203.0.113.77'
let cluster: Cluster
let server: string
let bystander: string

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  await populate(t, cluster, NS, [
    appPod(NS, 'server', 'http-server', INJECTED),
    appPod(NS, 'bystander', 'http-server', INJECTED),
    appPod(NS, 'neighbour', undefined, INJECTED),
    appPod(NS, 'outsider', undefined),
  ])
  server = await addressOf(cluster, NS, 'server')
  bystander = await addressOf(cluster, NS, 'bystander')
})

const decisions = async (): Promise<LogLine[]> =>
  (await sidecarLog(cluster, NS, 'server')).filter(({ msg }) => msg === 'decision')

for (const caller of ['outsider', 'neighbour']) {
  for (const port of [PORTS.outbound, PORTS.inbound]) {
    t.test(
      `${port} is refused to a pod ${caller === 'outsider' ? 'without' : 'with'} a sidecar`,
      { skip },
      async t => {
        const before = (await decisions()).length
        t.match((await banner(cluster, NS, caller, server, port)).error, /ECONNRESET/)
        const added = (await decisions()).slice(before)
        t.match(added, [
          { code: 'PSTN_OWN_PORT', direction: 'inbound', destination: { address: server, port } },
        ])
        t.equal(added.length, 1)
        t.same((await http(cluster, NS, caller, `http://${server}:8080/`)).statuses, { 200: 1 })
      },
    )
  }
}

t.test('what is routed to the pod but is not its address goes nowhere', { skip }, async t => {
  const { stdout } = await cluster.onNode('ip', '-json', 'route', 'get', server)
  const [{ dev }] = JSON.parse(stdout) as [{ dev: string }]
  await cluster.onNode('ip', 'route', 'add', ELSEWHERE, 'via', server, 'dev', dev, 'onlink')
  t.teardown(() => cluster.onNode('ip', 'route', 'del', ELSEWHERE))
  const dial = async (host: string) => {
    const script = `const say = word => { console.log(word); process.exit() }
      require('node:net').connect(8080, '${host}').on('connect', () => say('connected')).on('error', error => say(error.code))
      setTimeout(say, 2000, 'no answer')`
    return (await cluster.onNode(process.execPath, '-e', script)).stdout.trim()
  }
  t.equal(await dial(server), 'connected')
  t.equal(await dial(ELSEWHERE), 'no answer')
})

type Answers = {
  readonly answers: Record<string, { status: number | string; code?: string; body: string }>
  readonly goaway?: string
}

/** Asks the server's tunnel for streams, from inside the neighbour's sidecar, past its capture. */
async function ask(credentials: 'own' | 'none', ...authorities: string[]): Promise<Answers> {
  const script = await readFile(join(import.meta.dirname, 'connect-request.ts'), 'utf8')
  const container = ['exec', '--stdin', `--namespace=${NS}`, 'neighbour', `--container=${PROXY_CONTAINER}`]
  const node = ['--', 'node', '--input-type=module-typescript', '-', server, credentials, ...authorities]
  return JSON.parse(await checked(cluster, [...container, ...node], script))
}

t.test('a neighbour with a valid certificate is led to this pod’s application alone', { skip }, async t => {
  const refused = {
    PSTN_DESTINATION_NOT_LOCAL: [
      `${bystander}:8080`,
      `${NODE_ADDRESS}:10250`,
      '127.0.0.1:8080',
      '[::1]:8080',
      '0.0.0.0:8080',
      `${ELSEWHERE}:80`,
    ],
    PSTN_OWN_PORT: Object.values(PORTS).map(port => `${server}:${port}`),
    PSTN_TUNNEL_MALFORMED: [`server.${NS}.svc:8080`, `[::ffff:${server}]:8080`, `0${server}:8080`, server],
  }
  const { answers } = await ask('own', `${server}:8080`, ...Object.values(refused).flat())
  t.match(answers[`${server}:8080`], { status: 200, body: /^HTTP\/1.1 200 OK/ }, 'the certificate is good')
  for (const [code, authorities] of Object.entries(refused))
    for (const authority of authorities) t.match(answers[authority], { status: 400, code }, authority)
  t.comment(JSON.stringify(answers))
  t.match(await logs(cluster, NS, 'server', 'app'), '/relayed')
  t.notMatch(await logs(cluster, NS, 'bystander', 'app'), '/relayed')
})

t.test('a peer without a certificate is led nowhere', { skip }, async t => {
  const { answers, goaway } = await ask('none', `${server}:8080`)
  t.equal(goaway, 'PSTN_PEER_NO_CERTIFICATE')
  t.not(answers[`${server}:8080`]?.status, 200)
  t.match((await decisions()).at(-1), {
    code: 'PSTN_PEER_NO_CERTIFICATE',
    source: { address: await addressOf(cluster, NS, 'neighbour') },
  })
})
