// A mixed life of one pair of sidecars, POSTERN_SOAK_MINUTES long (30): kept and new connections, bulk, idle ones, resets,
// while certificates rotate and policies and endpoints change. No byte is lost, and memory does not grow with time.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { POLICY_LABEL } from '../../shared/names.ts'
import { until } from '../kube/support/installation.ts'
import type { Outcomes } from '../support/netns-application.ts'
import type { Script } from '../support/netns-conversation.ts'
import { MESH_NAMESPACE } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, type Pair, PING, PONG, SIDECARS, startPair, times } from '../support/netns-pair.ts'
import { inMiB, type Memory, memoryOf } from '../support/process-memory.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const MINUTES = Number(process.env.POSTERN_SOAK_MINUTES ?? 30)
const GROWTH = 1.1
/** Before, a process is still warming up. */
const JUDGED_MINUTES = 10
/** What is compared with the end: minute 5 of 30. */
const EARLY = 1 / 6
const SAMPLE_MS = 10_000
const AROUND = 6
/** Renewed every 60 to 90 seconds: a pod's eight names for requests are freed after five minutes. */
const LEAF_SECONDS = 180
const MIB = 1024 * 1024

const PORT = {
  talk: 7000,
  reset: 7001,
  up: 7002,
  down: 7003,
  idle: 7004,
  denied: 7005,
  random: 7006,
  http: 7007,
}
const ANSWER: Script = [...PONG, { do: 'receiveEnd' }, { do: 'end' }]
const TALK: Script = [...PING, ...CLOSE]
const IDLE = 100
const BULK = 32 * MIB

type Sample = { readonly minute: number; readonly server: Memory; readonly client: Memory }
type Tally = Record<string, Record<string, number>>

t.test(`${MINUTES} minutes`, { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack, { leafSeconds: LEAF_SECONDS })
  const { server, serverApp, clientApp } = pair
  const host = server.ipv4
  const timeoutMs = (MINUTES + 5) * 60_000
  await serve(pair, timeoutMs)
  const idle = clientApp.dialMany({
    host,
    port: PORT.idle,
    count: IDLE,
    timeoutMs,
    script: [...PING, { do: 'gate', name: 'over' }, ...PING, ...CLOSE],
  })
  const services = await pair.mesh.createService('server', PORT.talk, [server])
  const hosts = [host, server.ipv6, ...services]

  const tally: Tally = {}
  const add = (what: string, counts: Outcomes['counts']) => {
    const sums = tally[what] ?? {}
    tally[what] = sums
    for (const [outcome, count] of Object.entries(counts)) sums[outcome] = (sums[outcome] ?? 0) + count
  }
  const ends = performance.now() + MINUTES * 60_000
  const loop = async (pauseMs: number, work: (turn: number) => Promise<unknown>) => {
    for (let turn = 1; performance.now() < ends; turn += 1) {
      await work(turn)
      await delay(pauseMs)
    }
  }
  const dialling = (what: string, port: number, script: Script, count: number) => (turn: number) => {
    const target = hosts[turn % 2] ?? host
    return clientApp
      .dialMany({ host: target, port, script, count, atOnce: 4 })
      .then(({ counts }) => add(what, counts))
  }
  let seed = 0
  const samples: Sample[] = []
  const seen = new Set<unknown>()
  await Promise.all([
    loop(100, async turn => {
      const [target, port] = [hosts[turn % hosts.length] ?? host, turn % hosts.length < 2 ? PORT.talk : 80]
      const { counts } = await clientApp.dialMany({ host: target, port, script: TALK, count: 20, atOnce: 4 })
      add('new connections', counts)
    }),
    loop(200, () =>
      clientApp
        .requestMany({ host, port: PORT.http, count: 200, connections: 8, bytes: 1_000 })
        .then(counts => add('HTTP requests', counts)),
    ),
    loop(300, dialling('resets', PORT.reset, [{ do: 'send', bytes: 10 }, { do: 'reset' }], 20)),
    loop(2_000, dialling('32 MiB up', PORT.up, [{ do: 'send', bytes: BULK }, ...CLOSE], 1)),
    loop(
      2_000,
      dialling(
        '32 MiB down',
        PORT.down,
        [{ do: 'receive', bytes: BULK }, { do: 'receiveEnd' }, { do: 'end' }],
        1,
      ),
    ),
    loop(1_000, async () => {
      // One listener plays one seed: ids make the conversations different.
      const from = 1 + 20 * seed++
      const script = { random: SEED }
      const { counts } = await clientApp.dialMany({ host, port: PORT.random, script, count: 20, from })
      add('random conversations', counts)
    }),
    loop(15_000, async turn => {
      await changePolicy(pair, turn % 2 === 1)
      add('policy changes', { done: 1 })
    }),
    loop(20_000, async turn => {
      await changeEndpoints(pair, turn)
      add('endpoint changes', { done: 1 })
    }),
    loop(SAMPLE_MS, async turn => {
      // A pod keeps the end of its log alone.
      for (const serial of serials(pair)) seen.add(serial)
      const [atServer, atClient] = await Promise.all(
        SIDECARS.map(end => memoryOf(pair[end].sidecar.pid ?? 0)),
      )
      if (atServer && atClient)
        samples.push({ minute: (turn * SAMPLE_MS) / 60_000, server: atServer, client: atClient })
    }),
  ])

  await clientApp.open({ gate: 'over' })
  add('idle connections', (await idle).counts)
  show(t.comment.bind(t), samples, tally)

  for (const [what, counts] of Object.entries(tally)) {
    const good = what === 'HTTP requests' ? '200' : 'done'
    t.same(Object.keys(counts), [good], `${what}: ${JSON.stringify(counts)}`)
  }
  for (const port of [PORT.talk, PORT.up, PORT.down, PORT.idle, PORT.random])
    t.same(Object.keys(await serverApp.outcomes({ port })), ['done'], `the server on ${port}`)
  t.ok(seen.size > 1 || MINUTES < 3, `${seen.size} certificates of the server were seen`)
  for (const end of SIDECARS) {
    const early = typicalRss(samples, end, EARLY)
    const late = typicalRss(samples, end, 1)
    const ratio = late / early
    const isFlat = ratio <= GROWTH || MINUTES < JUDGED_MINUTES
    t.ok(isFlat, `the ${end}’s sidecar: RSS ${inMiB(early)}, then ${inMiB(late)}`)
  }
  t.ok(isWhole(await clientApp.dial({ host, port: PORT.talk, introduce: 1, script: TALK })))
})

const SEED = Number(process.env.POSTERN_SEED ?? Math.floor(Math.random() * 2 ** 31))

async function serve({ serverApp }: Pair, timeoutMs: number): Promise<void> {
  const listeners: readonly (readonly [number, Script])[] = [
    [PORT.talk, ANSWER],
    [PORT.denied, ANSWER],
    [PORT.reset, [{ do: 'receiveReset' }]],
    [PORT.up, [{ do: 'receive', bytes: BULK }, { do: 'receiveEnd' }, { do: 'end' }]],
    [PORT.down, [{ do: 'send', bytes: BULK }, ...CLOSE]],
    [PORT.idle, [...times(2, PONG), { do: 'receiveEnd' }, { do: 'end' }]],
  ]
  for (const [port, script] of listeners) await serverApp.serve({ port, meet: true, script, timeoutMs })
  await serverApp.serve({ port: PORT.random, meet: true, script: { random: SEED } })
  await serverApp.serveHttp({ port: PORT.http })
}

/** A policy that forbids one port comes or goes, and holds within a second; other connections live on. */
async function changePolicy({ mesh: { kube }, server, clientApp }: Pair, comes: boolean): Promise<void> {
  const path = `/api/v1/namespaces/${MESH_NAMESPACE}/configmaps`
  if (comes) {
    const metadata = { name: 'soak', labels: { [POLICY_LABEL]: 'true' } }
    await kube.create(path, { metadata, data: { 'deny.yaml': DENY } })
  } else await kube.delete(`${path}/soak`)
  const dial = { host: server.ipv4, port: PORT.denied, introduce: 1, script: TALK }
  await until(async () => isWhole(await clientApp.dial(dial)) !== comes)
}

const DENY = `
apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: soak}
spec:
  action: DENY
  rules:
  - to: [{operation: {ports: ["${PORT.denied}"]}}]
`

/** The Service's slice is written anew: as it is, or with an endpoint that is not ready beside it. */
async function changeEndpoints({ mesh: { kube }, server, client }: Pair, turn: number): Promise<void> {
  const path = `/apis/discovery.k8s.io/v1/namespaces/${MESH_NAMESPACE}/endpointslices/server-ipv4`
  const endpoint = ({ ipv4, pod: { metadata } }: Pair['server'], ready: boolean) => ({
    addresses: [ipv4],
    conditions: { ready },
    targetRef: { kind: 'Pod', namespace: MESH_NAMESPACE, name: metadata?.name, uid: metadata?.uid },
  })
  const endpoints = [endpoint(server, true), ...(turn % 2 === 1 ? [endpoint(client, false)] : [])]
  await kube.patch(path, 'application/merge-patch+json', { endpoints })
}

const serials = ({ client }: Pair): unknown[] =>
  client.lines.map(({ destination }) => Reflect.get(Object(destination), 'serial')).filter(Boolean)

/** Of two minutes around a part of the time: a collection that is due raises some of them, a leak all. */
function typicalRss(samples: readonly Sample[], end: (typeof SIDECARS)[number], part: number): number {
  const middle = Math.min(Math.round(part * samples.length), samples.length - AROUND)
  const near = samples
    .slice(Math.max(0, middle - AROUND), middle + AROUND)
    .map(sample => sample[end].rssBytes)
  return near.sort((a, b) => a - b)[near.length >> 1] ?? Number.NaN
}

function show(say: (line: string) => void, samples: readonly Sample[], tally: Tally): void {
  say('| minute | server RSS | server private | client RSS | client private |')
  say('|---|---|---|---|---|')
  const every = Math.max(1, Math.round(samples.length / 30))
  for (const [index, { minute, server, client }] of samples.entries()) {
    if (index % every !== 0 && index !== samples.length - 1) continue
    const cells = [server.rssBytes, server.privateBytes, client.rssBytes, client.privateBytes].map(inMiB)
    say(`| ${minute.toFixed(1)} | ${cells.join(' | ')} |`)
  }
  for (const [what, counts] of Object.entries(tally)) say(`${what}: ${JSON.stringify(counts)}`)
}
