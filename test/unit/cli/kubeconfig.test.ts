// A kubeconfig that is not there, or is none: the answer says which one was meant and where another may be named.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../../cli/kubeconfig.ts'

const WHERE = /--kubeconfig, \$KUBECONFIG or ~\/\.kube\/config/

t.test('one that is missing', async t => {
  const missing = join(t.testdir(), 'missing')
  t.throws(() => loadConfig(missing, undefined), { code: 'PSTN_CONFIG_INVALID', message: missing })
  t.throws(() => loadConfig(missing, undefined), { message: WHERE })
})

t.test('one that is no YAML', async t => {
  const broken = join(t.testdir(), 'broken')
  await writeFile(broken, '{')
  t.throws(() => loadConfig(broken, undefined), { code: 'PSTN_CONFIG_INVALID', message: WHERE })
})

t.test('control: one that is right is read', async t => {
  const right = join(t.testdir(), 'right')
  const cluster = { name: 'c', cluster: { server: 'https://127.0.0.1:1' } }
  const context = { name: 'c', context: { cluster: 'c', user: 'u' } }
  const user = { name: 'u', user: {} }
  await writeFile(
    right,
    JSON.stringify({ 'current-context': 'c', clusters: [cluster], contexts: [context], users: [user] }),
  )
  t.equal(loadConfig(right, undefined).getCurrentCluster()?.server, 'https://127.0.0.1:1')
})
