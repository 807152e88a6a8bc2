// Callers without a sidecar, on ports where one terminates TLS: curl, with certificates that the mesh issued and with others,
// in network namespaces with real rules, an injector and an API server.
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { certsRevoke } from '../../cli/certs/revoke.ts'
import { run } from '../../cli/run.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { POLICY_LABEL } from '../../shared/names.ts'
import { until } from '../kube/support/installation.ts'
import { AS_WORKLOAD, curl } from '../support/cert-files-applications.ts'
import { testAuthority } from '../support/certificates.ts'
import { memoryVolume } from '../support/memory-volume.ts'
import { isConnection, metricsOf, startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'

const MUTUAL = 8443
const SERVER = 8444
const ORDERS = 'orders.shop.svc'
/** Answers with what the sidecar says of the caller. */
const APPLICATION = `
import { createServer } from 'node:http'
for (const port of [${MUTUAL}, ${SERVER}])
  createServer((request, response) => {
    request.resume().on('end', () => response.end(String(request.headers['x-forwarded-client-cert'])))
  }).listen(port, '::')
`
const peerAuthentication = `
apiVersion: policy.postern.dev/v1
kind: PeerAuthentication
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  portLevelTls:
    "${MUTUAL}": {mode: MUTUAL}
    "${SERVER}": {mode: SERVER}
`
const onlyJob = `
apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: orders}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{from: [{source: {serviceAccounts: [job]}}], to: [{operation: {paths: [/closed]}}]}]
`
const lacking = requireNetns() || requireApiServer() || requireCommands('curl', 'setpriv')

t.test('TLS ports', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const { kube } = mesh
  await kube.create('/api/v1/namespaces/shop/services', {
    metadata: { name: 'orders' },
    spec: { selector: { app: 'orders' }, ports: [{ port: MUTUAL }] },
  })
  const files = memoryVolume(t)
  const [orders, job, plain] = await Promise.all([
    mesh.start('orders', { annotations: { 'postern.dev/http-ports': `${MUTUAL},${SERVER}` } }),
    mesh.start('job', {
      annotations: { 'postern.dev/cert-files': 'app' },
      volumes: { 'postern-cert-files': files },
    }),
    mesh.startPlain('plain'),
  ])
  const policy = {
    metadata: { name: 'policy', labels: { [POLICY_LABEL]: 'true' } },
    data: { 'modes.yaml': peerAuthentication, 'orders.yaml': onlyJob },
  }
  // The API server reads the caBundle a moment after it was written.
  await until(() =>
    kube.create('/api/v1/namespaces/shop/configmaps', policy).then(
      () => true,
      () => false,
    ),
  )
  const module = join(scratchDirectory(t), 'application.mjs')
  writeFileSync(module, APPLICATION)
  orders.namespace.spawn(process.execPath, [module], { uid: 1000, stdio: ['ignore', 'ignore', 'inherit'] })

  /** As a host without a sidecar, with the files of the job's certificate at hand. */
  const ask = (port: number, path: string, ...options: readonly string[]) => {
    const at = ['--connect-to', `::${orders.ipv4}:${port}`, '--cacert', 'ca.crt']
    return curl(plain.namespace, files, ...at, ...options, `https://${ORDERS}:${port}${path}`)
  }
  const refused = async (code: string) =>
    (await metricsOf(orders))(`postern_connections_refused_total{direction="inbound",code="${code}"}`)
  /** What curl ends with, once the sidecar has counted one more refusal by this code. */
  const isRefused = async (code: string, asked: () => ReturnType<typeof curl>) => {
    const before = await refused(code)
    const { status } = await asked()
    await until(async () => (await refused(code)) > before)
    return status
  }

  await t.test('a certificate of the mesh says who calls, to policy, application and log', async t => {
    await until(async () => (await ask(MUTUAL, '/', ...AS_WORKLOAD)).status === 0)
    t.match(
      (await ask(MUTUAL, '/', ...AS_WORKLOAD)).stdout,
      /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/job$/,
    )
    t.match(await orders.line(isConnection({ direction: 'inbound', via: 'tls', outcome: 'ok' })), {
      source: { identity: 'spiffe://cluster.local/ns/shop/sa/job' },
      destination: { port: MUTUAL },
      protocol: 'http1',
    })
    const status = ['--output', '/dev/null', '--write-out', '%{http_code}', ...AS_WORKLOAD]
    t.equal((await ask(MUTUAL, '/closed', ...status)).stdout, '403')
    t.equal((await ask(MUTUAL, '/open', ...status)).stdout, '200')
  })

  await t.test('curl holds the sidecar to the name that it dialled', async t => {
    const at = (host: string) =>
      curl(
        plain.namespace,
        files,
        ...['--connect-to', `::${orders.ipv4}:${MUTUAL}`, ...AS_WORKLOAD, `https://${host}:${MUTUAL}/`],
      )
    for (const [host, status] of [
      [`${ORDERS}.cluster.local`, 0],
      ['web.shop.svc', 60],
      [orders.ipv4, 60],
    ] as const)
      t.equal((await at(host)).status, status, host)
  })

  await t.test('where none is asked for a caller is encrypted, and nobody', async t => {
    t.equal((await ask(SERVER, '/')).stdout, 'undefined')
    t.match(await orders.line(isConnection({ via: 'tls-anonymous', outcome: 'ok' })), {
      source: { identity: undefined },
    })
  })

  await t.test('whoever is wrong is refused by its code', async t => {
    const directory = memoryVolume(t)
    chmodSync(directory, 0o755)
    const foreign = await testAuthority('cluster.local')
    const forged = await foreign.issue({ identity: 'spiffe://cluster.local/ns/shop/sa/job' })
    const [cert, key] = [join(directory, 'forged.crt'), join(directory, 'forged.key')]
    writeFileSync(cert, forged.chain, { mode: 0o644 })
    writeFileSync(key, forged.key, { mode: 0o644 })
    t.not(await isRefused('PSTN_PEER_NO_CERTIFICATE', () => ask(MUTUAL, '/')), 0)
    t.not(await isRefused('PSTN_PEER_UNTRUSTED', () => ask(MUTUAL, '/', '--cert', cert, '--key', key)), 0)
    const old = ['--tls-max', '1.2', ...AS_WORKLOAD]
    t.equal(await isRefused('PSTN_TLS_FAILED', () => ask(MUTUAL, '/', ...old)), 35)
    for (const port of [MUTUAL, SERVER]) {
      const plainly = () => curl(plain.namespace, files, `http://${orders.ipv4}:${port}/`)
      t.not(await isRefused('PSTN_PLAINTEXT_REFUSED', plainly), 0, `plaintext at ${port}`)
    }
    t.equal((await ask(MUTUAL, '/', ...AS_WORKLOAD)).status, 0, 'the right one passes')
  })

  await t.test('beside it the tunnel goes on, where the application speaks for itself', async t => {
    const inTunnel = await curl(job.namespace, files, `http://${orders.ipv4}:${MUTUAL}/`)
    t.match(inTunnel.stdout, /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/job$/)
    await orders.line(isConnection({ via: 'tunnel', outcome: 'ok' }))
  })

  await t.test('a certificate that is revoked is refused', async t => {
    const code = await run(['certs', 'revoke', 'spiffe://cluster.local/ns/shop/sa/job'], {
      commands: [certsRevoke],
      sink: { out: () => undefined, err: text => t.comment(text) },
      signal: new AbortController().signal,
      version: 'test',
      connect: async () => connectKube(mesh.server.endpoint),
    })
    t.equal(code, 0)
    await until(async () => (await ask(MUTUAL, '/', ...AS_WORKLOAD)).status !== 0)
    t.not(await isRefused('PSTN_PEER_REVOKED', () => ask(MUTUAL, '/', ...AS_WORKLOAD)), 0)
  })
})
