// `postern.dev/cert-files` with real mounts: who finds the files and who does not, as which user, before which container; and
// two applications that do TLS themselves while their certificates live for half a minute.
import t from 'tap'
import { requireCluster } from '../support/requirements.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { appContainer, appPod, appService, exec, populate } from './pods.ts'
import { installPostern } from './postern.ts'
import { crashes, metric } from './sidecar.ts'

const skip = requireCluster()
const NS = 'cert-files'
const FILES = '/var/run/secrets/postern.dev'
const LIFETIME_SECONDS = 30
const SECONDS = 45
let cluster: Cluster

const annotations = (containers: string, more: Record<string, string> = {}) => ({
  annotations: { 'postern.dev/inject': 'enabled', 'postern.dev/cert-files': containers, ...more },
})

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster, { maxLeafLifetimeSeconds: LIFETIME_SECONDS })
  const bystanders = [appContainer('app', 'tls-server'), appContainer('bystander')]
  const migrate = {
    ...appContainer('migrate'),
    command: ['sh', '-c', `cd ${FILES} && cat tls.key tls.crt ca.crt tls-combined.pem`],
  }
  const other = { runAsUser: 4711, runAsGroup: 4711, fsGroup: 4712, runAsNonRoot: true }
  await populate(t, cluster, NS, [
    // First: its names are in the certificates.
    appService(NS, 'server', 8443),
    appPod(NS, 'server', undefined, {
      ...annotations('app,migrate', { 'postern.dev/cert-files-hook': '8081/reload' }),
      spec: { containers: bystanders, initContainers: [migrate] },
    }),
    appPod(NS, 'client', undefined, {
      ...annotations('app', { 'postern.dev/cert-files-env': 'NODE_EXTRA_CA_CERTS' }),
      spec: { securityContext: other },
    }),
  ])
})

const inside = (pod: string, container: string, script: string) =>
  exec(cluster, NS, pod, container, 'sh', '-c', script)

t.test('the chosen containers read the files, whoever they are, and cannot write them', { skip }, async t => {
  for (const pod of ['server', 'client']) {
    const { stdout, stderr, code } = await inside(
      pod,
      'app',
      `cd ${FILES} && ls && cat tls.key tls.crt ca.crt`,
    )
    t.equal(code, 0, stderr)
    t.match(stdout, /^ca\.crt\ntls-combined\.pem\ntls\.crt\ntls\.key\n-----BEGIN PRIVATE KEY-----/)
    t.match(await inside(pod, 'app', `echo x > ${FILES}/ca.crt`), {
      code: 1,
      stderr: /Read-only file system/,
    })
    t.match(await inside(pod, 'app', `mount | grep ${FILES}`), { stdout: /type tmpfs \(ro,.*size=4096k/ })
  }
})

t.test('a container that was not chosen finds nothing', { skip }, async t => {
  t.match(await inside('server', 'bystander', `ls ${FILES}`), { code: 1, stderr: /No such file/ })
})

t.test('variables lead to the bundle', { skip }, async t => {
  const { stdout } = await inside('client', 'app', 'echo $NODE_EXTRA_CA_CERTS; cat $NODE_EXTRA_CA_CERTS')
  t.match(stdout, new RegExp(`^${FILES}/ca\\.crt\n-----BEGIN CERTIFICATE-----`))
})

t.test('two applications do TLS themselves over rotations of both, and nothing fails', { skip }, async t => {
  const url = `https://server.${NS}.svc:8443/`
  const { stdout, stderr } = await exec(
    cluster,
    NS,
    'client',
    'app',
    ...['node', '/apps/tls-client.ts', url, String(SECONDS)],
  )
  t.match(stdout, /^\{/, stderr)
  const { answers, serials } = JSON.parse(stdout)
  const [answer = '', ...others] = Object.keys(answers)
  t.match(answer, `URI:spiffe://cluster.local/ns/${NS}/sa/default`)
  t.same(others, [])
  t.ok(serials.length >= 3, `${serials.length} certificates of the server`)
  t.ok(answers[answer] > 100, `${answers[answer]} requests`)
  t.ok((await metric(cluster, NS, 'server', 'postern_cert_files_hook_calls_total{outcome="answered"}')) >= 2)
  t.same(await crashes(cluster, NS, 'client', 'server'), [])
})
