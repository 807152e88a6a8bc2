// `postern certs` as an operator types it: through the API server and the kubelet to a replica's loopback, with nothing but a
// kubeconfig; and what a user without that right is told.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { certs } from '../../cli/certs/list.ts'
import { connectCluster } from '../../cli/kubeconfig.ts'
import { run } from '../../cli/run.ts'
import { requireCluster } from '../support/requirements.ts'
import { useCluster } from './cluster.ts'
import { apply, appPod, checked, createNamespace, eventually, INJECTED, waitForPod } from './pods.ts'
import { installPostern } from './postern.ts'

const NS = 'certs'

t.test('postern certs reaches a replica by port-forward', { skip: requireCluster() }, async t => {
  const cluster = await useCluster(t)
  await installPostern(cluster)
  await using _ = await createNamespace(cluster, NS)
  await apply(cluster, appPod(NS, 'web', 'tcp-banner', INJECTED))
  await waitForPod(cluster, NS, 'web')
  const admin = join(cluster.directory, 'admin.kubeconfig')
  const typed = async (kubeconfig: string, ...words: string[]) => {
    const [out, err]: [string[], string[]] = [[], []]
    const code = await run(['certs', '--kubeconfig', kubeconfig, ...words], {
      commands: [certs],
      sink: { out: text => out.push(text), err: text => err.push(text) },
      signal: AbortSignal.timeout(30_000),
      version: 'test',
      connect: connectCluster,
    })
    return { code, out: out.join(''), err: err.join('') }
  }
  await eventually(
    async () => (await typed(admin, '--namespace', NS)).code === 0,
    'the sidecar has told of its certificate',
  )
  const { code, out, err } = await typed(admin, '--namespace', NS)
  t.same([code, err], [0, ''])
  t.match(out, /^nothing is in danger\. The first of 3 to expire: certs\/web, in /)
  t.match(out, /^certs\/web +good +in .* +[0-9a-f]{32}/m)

  const token = (await checked(cluster, ['create', 'token', 'default', `--namespace=${NS}`])).trim()
  t.teardown(() => cluster.kubectl(['delete', 'rolebinding', 'viewer', '--namespace=postern-system']))
  await checked(cluster, [
    'create',
    'rolebinding',
    'viewer',
    '--clusterrole=view',
    `--serviceaccount=${NS}:default`,
    '--namespace=postern-system',
  ])
  const config = JSON.parse(await readFile(admin, 'utf8'))
  const viewer = join(t.testdir(), 'viewer.kubeconfig')
  await writeFile(viewer, JSON.stringify({ ...config, users: [{ name: 'admin', user: { token } }] }))
  t.match(await typed(viewer), {
    code: 1,
    out: '',
    err: /^postern: PSTN_API_UNAVAILABLE: .* 403 \(it needs `create` on pods\/portforward\)\n$/,
  })
})
