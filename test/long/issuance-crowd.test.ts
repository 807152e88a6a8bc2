// As many sidecars as start after a power cut ask for their first certificate at once, of a real API server and a real
// injector process: all get one, and how fast is printed (docs/performance.md says how to read it). Times are told, not judged.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { INJECTOR_NAME, WORKLOAD_ROLE } from '../../shared/names.ts'
import { askingPod } from '../kube/support/asking-pod.ts'
import { startInjectorProcess } from '../kube/support/injector-process.ts'
import { createNamespace, createServiceAccount, install, until } from '../kube/support/installation.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'

const CLIENTS = Number(process.env.POSTERN_CLIENTS ?? 500)
/** As after a root was revoked, which all hear of at once and renew within two seconds. */
const SPREAD_MS = Number(process.env.POSTERN_SPREAD_MS ?? 0)
const AT_A_TIME = 16

const FIXTURES = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "${WORKLOAD_ROLE}:shop"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ${WORKLOAD_ROLE}}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:shop"}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
`

/** Calls that the API server has answered, by verb and resource; watches count when they end. */
async function calls({ kube }: ApiServer): Promise<ReadonlyMap<string, number>> {
  const text = (await (await kube.stream('/metrics', AbortSignal.timeout(30_000))).toArray()).join('')
  const counts = new Map<string, number>()
  for (const [, labels = '', value] of text.matchAll(/^apiserver_request_total\{(.*)\} (.*)$/gm)) {
    const label = (name: string) => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(labels)?.[1] ?? ''
    const resource = [label('resource'), label('subresource')].filter(Boolean).join('/')
    const key = `${label('verb')} ${resource}`
    counts.set(key, (counts.get(key) ?? 0) + Number(value))
  }
  return counts
}

const OURS = /^(POST|GET|PUT|DELETE|PATCH) (certificatesigningrequests|pods$|configmaps)/

const percentile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? 0

t.test(
  `${CLIENTS} sidecars ask for their first certificate at once`,
  { skip: requireApiServer() },
  async t => {
    await using stack = new AsyncDisposableStack()
    const server = stack.use(await startApiServer())
    await install(server)
    await createNamespace(server.kube, 'shop')
    await createServiceAccount(server.kube, 'shop', 'cart')
    const applied = await server.kubectl(['apply', '-f', '-'], FIXTURES)
    t.equal(applied.code, 0, applied.stderr)
    const injector = await startInjectorProcess(server, {
      name: INJECTOR_NAME,
      directory: scratchDirectory(t),
    })
    stack.defer(() => injector.running.stop('SIGKILL'))
    await injector.ready()
    await until(async () => (await injector.metric('postern_leader')) === 1)

    const names = Array.from({ length: CLIENTS }, (_, index) => `cart-${index}`)
    const pods: Awaited<ReturnType<typeof askingPod>>[] = []
    const left = names.values()
    const prepare = async () => {
      for (const name of left)
        pods.push(await askingPod(t, { server }, name, { idle: true, timeoutMs: 60_000 }))
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, prepare))

    const before = await calls(server)
    const started = performance.now()
    const restart = async (pod: (typeof pods)[number]) => {
      if (SPREAD_MS > 0) await delay(Math.random() * SPREAD_MS)
      await pod.restart()
    }
    await Promise.all(pods.map(restart))
    const begun = performance.now() - started
    while (pods.some(({ credentials }) => credentials.length === 0)) {
      await delay(20)
      if (performance.now() - started > 240_000) break
    }
    const took = performance.now() - started
    const after = await calls(server)
    await Promise.all(pods.map(pod => pod.stop()))

    t.equal(pods.filter(({ credentials }) => credentials.length === 1).length, CLIENTS, 'each has one')
    t.equal(new Set(pods.map(({ credentials }) => credentials[0]?.serial)).size, CLIENTS, 'of its own')
    const failures = pods.flatMap(pod => pod.failures())
    const pushedBack = failures.filter(failure => /Too many requests/.test(failure))
    t.equal(pushedBack.length, failures.length, 'none failed but for the API server that said: later')

    const waits = pods
      .flatMap(({ events }) => events.flatMap(event => (event.kind === 'issued' ? [event.tookMs] : [])))
      .sort((a, b) => a - b)
    const [p50, p90, p99] = [0.5, 0.9, 0.99].map(share => Math.round(percentile(waits, share)))
    t.comment(
      `all in ${Math.round(took)} ms (${Math.round(begun)} to begin): ${Math.round((CLIENTS / took) * 1000)} a second`,
    )
    t.comment(`${pushedBack.length} attempts were told: later`)
    t.comment(`from request to certificate: p50 ${p50}, p90 ${p90}, p99 ${p99}, longest ${waits.at(-1)} ms`)
    let total = 0
    for (const [key, count] of after) {
      const each = (count - (before.get(key) ?? 0)) / CLIENTS
      if (!OURS.test(key) || each < 0.01) continue
      total += each
      t.comment(`${key}: ${each.toFixed(2)} for each certificate`)
    }
    t.comment(`${total.toFixed(2)} calls for each certificate`)
  },
)
