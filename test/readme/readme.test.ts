// A new user's first hour: every `sh` block of the README, in order, in a fresh copy of the checkout, against a real
// cluster; the policy it shows is applied. What the reader brings (a base image, applications, a push to a registry) is here.
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { V1Pod, V1PodList } from '@kubernetes/client-node'
import t from 'tap'
import { PROXY_CONTAINER } from '../../shared/names.ts'
import { builtBinary } from '../cluster/binaries.ts'
import { type Cluster, useCluster } from '../cluster/cluster.ts'
import { baseImage, buildahStore } from '../cluster/images.ts'
import { apply, appPod, checked, createNamespace, eventually } from '../cluster/pods.ts'
import { type Block, blocksOf } from '../support/markdown.ts'
import { requireCluster } from '../support/requirements.ts'
import { projectRoot } from '../support/source-files.ts'

const run = promisify(execFile)
const skip = requireCluster()
const blocks = blocksOf(await readFile(join(projectRoot, 'README.md'), 'utf8'))

/** What git would give a new user, uncommitted changes included. */
async function freshCopy(directory: string): Promise<string> {
  const copy = join(directory, 'postern')
  const list = ['ls-files', '--cached', '--others', '--exclude-standard', '-z']
  const { stdout } = await run('git', list, { cwd: projectRoot, maxBuffer: 16 * 1024 * 1024 })
  for (const path of stdout.split('\0').filter(path => path !== '')) {
    await mkdir(dirname(join(copy, path)), { recursive: true })
    await cp(join(projectRoot, path), join(copy, path))
  }
  return copy
}

/** The reader's shell: kubectl for this cluster, buildah with the store that holds the base image. */
async function readersShell(directory: string, cluster: Cluster): Promise<NodeJS.ProcessEnv> {
  const bin = join(directory, 'bin')
  await mkdir(bin)
  await symlink(await builtBinary('kubectl'), join(bin, 'kubectl'))
  const { root, runroot } = buildahStore()
  const conf = join(directory, 'storage.conf')
  await writeFile(conf, `[storage]\ndriver = "overlay"\ngraphroot = "${root}"\nrunroot = "${runroot}"\n`)
  return {
    ...process.env,
    PATH: `${bin}:${process.env.PATH}`,
    KUBECONFIG: join(cluster.directory, 'admin.kubeconfig'),
    BASE: await baseImage(),
    BUILDAH_ISOLATION: 'chroot',
    CONTAINERS_STORAGE_CONF: conf,
  }
}

function shell(
  script: string,
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ code: number; output: string }>()
  const options = { cwd, env, maxBuffer: 64 * 1024 * 1024 }
  execFile('bash', ['-euo', 'pipefail', '-c', script], options, (error, stdout, stderr) =>
    resolve({ code: error ? Number(error.code ?? 1) : 0, output: `${stdout}${stderr}`.trim() }),
  )
  return promise
}

/** An application that the reader already has. */
function deployment(name: string): object {
  const { metadata, spec } = appPod('shop', name, 'http-server')
  const template = { metadata: { labels: metadata?.labels }, spec }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'shop' },
    spec: { replicas: 1, selector: { matchLabels: metadata?.labels }, template },
  }
}

const podsOf = async ({ kube }: Cluster) => (await kube.get<V1PodList>('/api/v1/namespaces/shop/pods')).items
const isStaying = ({ metadata }: V1Pod) => metadata?.deletionTimestamp === undefined

const isShell = ({ language }: Block) => language === 'sh'
const isManifest = ({ language }: Block) => language === 'yaml'

t.test('the README works as it is written', { skip, timeout: 900_000 }, async t => {
  const cluster = await useCluster(t)
  const directory = await mkdtemp(join(tmpdir(), 'postern-readme-'))
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const cwd = await freshCopy(directory)
  const env = await readersShell(directory, cluster)
  await using _ = await createNamespace(cluster, 'shop')
  for (const name of ['orders', 'database']) await apply(cluster, deployment(name))

  for (const [index, block] of blocks.entries()) {
    const title = `${block.heading}: ${block.text.trim().split('\n')[0]}`
    if (isShell(block))
      await t.test(`block ${index + 1} runs: ${title}`, async t => {
        // A reader takes longer to read on than a replaced pod to end.
        await eventually(async () => (await podsOf(cluster)).every(isStaying), 'replaced pods to be gone')
        const { code, output } = await shell(block.text, cwd, env)
        t.equal(code, 0, output)
        t.comment(output.split('\n').slice(-3).join('\n'))
      })
    if (isManifest(block))
      await t.test(`block ${index + 1} is accepted: ${title}`, async () => {
        await checked(cluster, ['apply', '-f', '-'], block.text)
      })
  }

  await t.test('afterwards every pod of the namespace has its sidecar', async () => {
    await eventually(async () => {
      const items = await podsOf(cluster)
      const injected = items.filter(({ spec }) =>
        spec?.initContainers?.some(({ name }) => name === PROXY_CONTAINER),
      )
      return items.length === 2 && injected.length === 2
    }, 'two pods, both with sidecars')
  })
})

t.test('the README has commands to run', async t => {
  t.ok(blocks.filter(isShell).length >= 6)
  t.equal(blocks.filter(isManifest).length, 1)
})
