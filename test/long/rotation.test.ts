// Every certificate of the mesh is replaced while traffic of every kind goes on, on a real cluster: leaves, the issuer, and the
// root by `postern ca rotate` from its beginning until the old one is dropped. Nothing fails and nothing is reset, on
// connections that are older than all of it too. How much slower it is meanwhile is printed, and judged by people.
import { loadavg } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { decodeCaStatus } from '../../shared/ca/status.ts'
import { type Cluster, useCluster } from '../cluster/cluster.ts'
import { operator } from '../cluster/operator.ts'
import {
  apply,
  appPod,
  appService,
  checked,
  createNamespace,
  eventually,
  exec,
  INJECTED,
  waitForPod,
  waitForService,
} from '../cluster/pods.ts'
import { installPostern } from '../cluster/postern.ts'
import { accessLog, crashes, sidecarLog } from '../cluster/sidecar.ts'
import { requireCluster } from '../support/requirements.ts'

const skip = requireCluster()
const NS = 'rotation-long'
const LEAF_SECONDS = 60
const SHORT = { maxLeafLifetimeSeconds: LEAF_SECONDS, maxServingLifetimeSeconds: LEAF_SECONDS }
/** A kubectl that starts ten times a second takes half a core from the traffic. */
const ASK_EVERY_MS = 3_000
/** Of each part that has no end of its own. */
const PART_SECONDS = Number(process.env.POSTERN_ROTATION_PART_SECONDS ?? 60)
/** All of them, a minute in which a root is published, and twice a leaf until the old one is dropped. */
const SECONDS = 5 * PART_SECONDS + 90 + 3 * LEAF_SECONDS + 60

type Kind = {
  readonly answers: readonly (readonly [at: number, ms: number])[]
  readonly failures: readonly { readonly at: number; readonly what: string }[]
}
/** `load`: of the whole machine, which others may have used meanwhile. */
type Part = { readonly name: string; readonly from: number; readonly to: number; readonly load: number }

let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  const namespace = await createNamespace(cluster, NS)
  t.teardown(() => namespace[Symbol.asyncDispose]())
  const ports = [8080, 9000, 9090].map(port => ({ name: `p${port}`, port }))
  await apply(
    cluster,
    appPod(NS, 'server', 'traffic-server', INJECTED),
    appPod(NS, 'client', undefined, INJECTED),
    appService(NS, 'server', 8080, { ports }),
  )
  await Promise.all(['server', 'client'].map(pod => waitForPod(cluster, NS, pod)))
  await waitForService(cluster, NS, 'server')
})

const status = async () => {
  const json = await checked(cluster, [
    'get',
    'configmap',
    'postern-ca',
    '--namespace=postern-system',
    '-o=jsonpath={.data.status\\.json}',
  ])
  return decodeCaStatus(JSON.parse(json), 'status')
}

const serials = async (pod: string): Promise<number> =>
  (await sidecarLog(cluster, NS, pod)).filter(({ msg }) => msg === 'certificate issued').length

async function traffic(): Promise<Record<string, Kind>> {
  const program = ['node', '/apps/traffic-client.ts', 'server', String(SECONDS)]
  const { stdout, stderr } = await exec(cluster, NS, 'client', 'app', ...program)
  if (!stdout.startsWith('{')) throw new Error(`traffic-client: ${stdout}${stderr}`)
  return JSON.parse(stdout)
}

t.test('leaves, issuer and root are replaced, and no traffic notices', { skip }, async t => {
  await using shell = await operator(cluster)
  const { postern } = shell
  const parts: Part[] = []
  const part = async (name: string, work: () => Promise<unknown>) => {
    const from = Date.now()
    await work()
    const [load = Number.NaN] = loadavg()
    parts.push({ name, from, to: Date.now(), load })
    t.comment(`${name}: ${Math.round((Date.now() - from) / 1000)} s`)
  }
  const pause = () => delay(PART_SECONDS * 1000)

  const running = traffic()
  await delay(5_000)
  const { root: before, issuer: firstIssuer } = await status()
  await part('before', pause)
  // How far apart two parts are in which nothing happens.
  await part('before, again', pause)
  await part('injector rolled out', () => installPostern(cluster, SHORT))
  await postern('certs', 'renew', '--all', '--within', '5s')
  await part('leaves of a minute', pause)
  const had = await serials('client')
  t.ok(had >= 3, `the client’s certificate was replaced ${had - 1} times`)

  await postern('ca', 'rotate', '--issuer')
  await part('a new issuer', pause)
  const { issuer: second } = await status()
  t.not(second.fingerprint, firstIssuer.fingerprint)

  await postern('ca', 'rotate')
  const phase = async (wanted: string) => (await status()).phase === wanted
  await part('root: published', () =>
    eventually(() => phase('switched'), 'the switch', 180_000, ASK_EVERY_MS),
  )
  await part('root: both trusted', () => eventually(() => phase('idle'), 'the drop', 240_000, ASK_EVERY_MS))
  await part('root: dropped', pause)
  const { root: after, former } = await status()
  t.not(after.fingerprint, before.fingerprint)
  t.match(former[0], { fingerprint: before.fingerprint, end: 'retired' })

  const kinds = await running
  for (const [kind, { answers, failures }] of Object.entries(kinds)) {
    t.ok(answers.length > 1000, `${kind}: ${answers.length} answers`)
    t.same(failures, [], `${kind}: nothing failed`)
  }
  for (const line of table(kinds, parts)) t.comment(line)
  t.same(await crashes(cluster, NS, 'client', 'server'), [])
  const unwell = (await accessLog(cluster, NS, 'server')).filter(({ outcome }) => outcome !== 'ok')
  t.same(unwell, [])
})

function* table(kinds: Record<string, Kind>, parts: readonly Part[]): Generator<string> {
  yield `| p99, ms | ${parts.map(({ name }) => name).join(' | ')} |`
  yield `| load of the machine | ${parts.map(({ load }) => load.toFixed(1)).join(' | ')} |`
  for (const [kind, { answers }] of Object.entries(kinds)) {
    const [first = 0, ...others] = parts.map(part => p99(answers, part))
    const cells = others.map(ms => `${ms.toFixed(1)} (${(ms / first).toFixed(2)} ×)`)
    yield `| ${kind} | ${[first.toFixed(1), ...cells].join(' | ')} |`
  }
}

function p99(answers: Kind['answers'], { from, to }: Part): number {
  const times = answers
    .filter(([at]) => at >= from && at < to)
    .map(([, ms]) => ms)
    .sort((a, b) => a - b)
  return times[Math.ceil(times.length * 0.99) - 1] ?? Number.NaN
}
