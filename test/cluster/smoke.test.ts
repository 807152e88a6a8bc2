import t from 'tap'
import { requireCluster } from '../support/requirements.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { APPS_IMAGE } from './images.ts'
import { apply, appPod, appService, createNamespace, exec, logs, waitForPod, waitForService } from './pods.ts'

const skip = requireCluster()
const NAMESPACE = 'smoke'
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  const namespace = await createNamespace(cluster, NAMESPACE)
  t.teardown(() => namespace[Symbol.asyncDispose]())
})

t.test('a Service is reached by its DNS name from a pod with two containers', { skip }, async t => {
  const sidecar = {
    name: 'second',
    image: APPS_IMAGE,
    imagePullPolicy: 'Never',
    command: ['sleep', '1000000'],
  }
  const client = appPod(NAMESPACE, 'client', undefined, {
    spec: { initContainers: [{ ...sidecar, restartPolicy: 'Always' }] },
  })
  await apply(
    cluster,
    appPod(NAMESPACE, 'server', 'http-server'),
    appService(NAMESPACE, 'server', 8080),
    client,
  )
  await Promise.all([waitForPod(cluster, NAMESPACE, 'server'), waitForPod(cluster, NAMESPACE, 'client')])
  await waitForService(cluster, NAMESPACE, 'server')
  for (const container of ['app', 'second']) {
    const command = [
      'node',
      '/apps/http-client.ts',
      `http://server.${NAMESPACE}:8080/hello`,
      '--body',
      `from ${container}`,
    ]
    const { stdout, stderr, code } = await exec(cluster, NAMESPACE, 'client', container, ...command)
    t.equal(code, 0, stdout + stderr)
  }
  const requests = await logs(cluster, NAMESPACE, 'server', 'app')
  t.match(requests, /"body":"from app"/)
  t.match(requests, /"body":"from second"/)
})

t.test('a pod reaches the API server under the address that its environment names', { skip }, async t => {
  const token = '/var/run/secrets/kubernetes.io/serviceaccount'
  const script = `
    const { readFileSync } = require('node:fs')
    const url = 'https://' + process.env.KUBERNETES_SERVICE_HOST + ':' + process.env.KUBERNETES_SERVICE_PORT + '/version'
    require('node:https').get(url, { ca: readFileSync('${token}/ca.crt') }, answer => answer.pipe(process.stdout))`
  const { stdout, stderr } = await exec(cluster, NAMESPACE, 'client', 'app', 'node', '-e', script)
  t.match(stdout, /gitVersion/, stderr)
})

t.test('pods go on while the API server is away', { skip }, async t => {
  await cluster.stopApiServer()
  await t.rejects(cluster.kube.get('/api/v1/namespaces/default'))
  await cluster.startApiServer()
  const { code } = await exec(
    cluster,
    NAMESPACE,
    'client',
    'app',
    'node',
    '/apps/http-client.ts',
    'http://server:8080/',
  )
  t.equal(code, 0)
})
