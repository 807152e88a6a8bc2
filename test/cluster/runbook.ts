// Runs the runbooks of docs/operations.md: their blocks as they stand there, in order, in one shell each. A test says what is
// wrong before, and looks at what came of it; none may leave a block out.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type Block, blocksOf } from '../support/markdown.ts'
import { projectRoot } from '../support/source-files.ts'
import { http } from './applications.ts'
import type { Cluster } from './cluster.ts'
import type { Operator } from './operator.ts'
import {
  appPod,
  appService,
  checked,
  eventually,
  INJECTED,
  populate,
  type Resource,
  serviceAccount,
} from './pods.ts'

/** As it is called in the runbooks. */
export const SHOP = 'shop'
const PREFIX = 'Runbook: '

export const runbookBlocks = async (): Promise<Block[]> =>
  blocksOf(await readFile(join(projectRoot, 'docs/operations.md'), 'utf8'))
    .filter(({ heading, language }) => heading.startsWith(PREFIX) && language === 'sh')
    .map(block => ({ ...block, heading: block.heading.slice(PREFIX.length) }))

export type Steps = {
  /** Types the next block, and gives what it printed. */
  next(): Promise<string>
}

/** A test of the runbook of this title. */
export async function runbook(
  t: Test,
  operator: Operator,
  title: string,
  body: (t: Test, steps: Steps) => Promise<void>,
  variables: Readonly<Record<string, string>> = {},
): Promise<void> {
  await t.test(`runbook: ${title}`, async t => {
    const blocks = (await runbookBlocks()).filter(({ heading }) => heading === title)
    using shell = operator.shell(variables)
    const left = [...blocks]
    const next = async () => {
      const block = left.shift()
      if (!block) throw new Error(`the runbook ${title} has only ${blocks.length} blocks`)
      return shell.type(block.text)
    }
    await body(t, { next })
    t.same(left, [], 'every block was typed')
  })
}

/** Follows a whole runbook, where another one begins with it. */
export async function follow(operator: Operator, title: string): Promise<void> {
  using shell = operator.shell()
  for (const { heading, text } of await runbookBlocks()) if (heading === title) await shell.type(text)
}

/** Two workloads as the runbooks name them, and a caller of `web` that none of them touches. */
export async function openShop(t: Test, cluster: Cluster): Promise<void> {
  const objects = [
    serviceAccount(SHOP, 'web'),
    serviceAccount(SHOP, 'cart'),
    deployment('web', 'http-server'),
    deployment('cart', undefined),
    appPod(SHOP, 'caller', undefined, INJECTED),
    appService(SHOP, 'web', 8080),
  ]
  await populate(t, cluster, SHOP, objects, { 'postern.dev/inject': 'enabled' })
}

function deployment(name: string, program: string | undefined): Resource {
  const { metadata, spec } = appPod(SHOP, name, program, { serviceAccount: name })
  const template = { metadata: { labels: metadata?.labels }, spec }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: SHOP },
    spec: { replicas: 1, selector: { matchLabels: metadata?.labels }, template },
  }
}

/** The pod of a Deployment that is there to stay. */
export async function podOfApp(cluster: Cluster, app: string): Promise<string> {
  const names = await checked(cluster, [
    'get',
    'pods',
    `--namespace=${SHOP}`,
    `--selector=app=${app}`,
    '-o=jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{"\\n"}{end}',
  ])
  const [name] = names.split('\n').filter(line => /^\S+ $/.test(line))
  if (!name) throw new Error(`no pod of ${app}: ${names}`)
  return name.trim()
}

/** Fingerprint of the one that signs, as `postern ca status` prints it. */
export const rootOf = (status: string): string => /^root +([0-9a-f]{64}),/m.exec(status)?.[1] ?? ''

const WEB = 'http://web:8080/'

/** Whether one request from this pod to `web` is answered. */
export async function answered(cluster: Cluster, pod: string): Promise<boolean> {
  const { statuses } = await http(cluster, SHOP, pod, WEB)
  return statuses[200] === 1
}

export const reaches = (cluster: Cluster, pod: string, what = `${pod} reaches web`): Promise<void> =>
  eventually(() => answered(cluster, pod), what, 60_000)

export const isRefused = (cluster: Cluster, pod: string): Promise<void> =>
  eventually(async () => !(await answered(cluster, pod)), `${pod} is refused by web`, 90_000)

/** Does it while requests go on, each on a new connection: how many failed. */
export async function costing(
  cluster: Cluster,
  seconds: number,
  work: () => Promise<unknown>,
): Promise<{ readonly failed: number; readonly answered: number }> {
  const options = [`--seconds=${seconds}`, '--every=50', '--new-connections']
  const calls = http(cluster, SHOP, 'caller', WEB, ...options)
  await work()
  const { statuses, errors } = await calls
  const good = statuses[200] ?? 0
  const others = Object.entries(statuses).filter(([status]) => status !== '200')
  const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0)
  return { failed: sum([...Object.values(errors), ...others.map(([, count]) => count)]), answered: good }
}
