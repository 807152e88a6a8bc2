// `postern policy explain` of a pod, and `status`: what the API server holds, read with the caller's rights alone.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { connectCluster } from '../../cli/kubeconfig.ts'
import { policyExplain } from '../../cli/policy/explain.ts'
import { policyStatus } from '../../cli/policy/status.ts'
import { run } from '../../cli/run.ts'
import { serveAdmin } from '../../injector/admin/server.ts'
import type { Gathered, SidecarReport } from '../../shared/control/sidecar-report.ts'
import { createLogger } from '../../shared/log.ts'
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { createNamespace } from './support/installation.ts'

const deployment = (volumes: string) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: postern-injector, namespace: ${SYSTEM_NAMESPACE}}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers: [{name: x, image: x}]
      volumes: [${volumes}]
`
const policy = (name: string, namespace: string, data: string) => `
apiVersion: v1
kind: ConfigMap
metadata: {name: ${name}, namespace: ${namespace}, labels: {postern.dev/policy: "true"}}
data:
  a.yaml: '${data}'
`
const document = (name: string, spec: string) =>
  `{apiVersion: policy.postern.dev/v1, kind: AuthorizationPolicy, metadata: {name: ${name}}, spec: ${spec}}`

const MANIFESTS = [
  deployment('{name: other, configMap: {name: other}}, {name: config, configMap: {name: postern-config-x1}}'),
  `apiVersion: v1
kind: ConfigMap
metadata: {name: postern-config-x1, namespace: ${SYSTEM_NAMESPACE}}
data: {config.yaml: "trustDomain: td.one\\ndefaultAction: deny\\n"}
`,
  policy('orders', 'shop', document('orders', '{rules: [{from: [{source: {serviceAccounts: [web]}}]}]}')),
  policy(
    'mesh',
    SYSTEM_NAMESPACE,
    document('no-tests', '{action: DENY, rules: [{from: [{source: {namespaces: [test]}}]}]}'),
  ),
  `apiVersion: v1
kind: Pod
metadata: {name: orders-0, namespace: shop, labels: {app: orders}}
spec: {containers: [{name: x, image: x}]}
`,
].join('---\n')

t.test(
  'why a pod lets somebody in, and where policies are in force',
  { skip: requireApiServer() },
  async t => {
    await using undo = new AsyncDisposableStack()
    const server = undo.use(await startApiServer())
    await createNamespace(server.kube, SYSTEM_NAMESPACE)
    await createNamespace(server.kube, 'shop', { 'postern.dev/mode': 'strict' })
    const applied = await server.kubectl(['apply', '-f', '-'], MANIFESTS)
    t.equal(applied.code, 0, applied.stderr)

    const { cert = '', key = '' } = server.endpoint.clientCertificate ?? {}
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    const users = {
      admin: { 'client-certificate-data': base64(cert), 'client-key-data': base64(key) },
      nobody: { token: await server.tokenFor('shop', 'default') },
    }
    const file = join(scratchDirectory(t), 'config')
    const cluster = { server: server.serverUrl, 'certificate-authority-data': base64(server.ca) }
    await writeFile(
      file,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [{ name: 'here', cluster }],
        users: Object.entries(users).map(([name, user]) => ({ name, user })),
        contexts: Object.keys(users).map(user => ({ name: user, context: { cluster: 'here', user } })),
        'current-context': 'admin',
      }),
    )
    const typed = async (...words: readonly string[]) => {
      let [out, err] = ['', '']
      const sink = {
        out: (text: string) => {
          out += text
        },
        err: (text: string) => {
          err += text
        },
      }
      const signal = AbortSignal.timeout(30_000)
      const code = await run([...words, '--kubeconfig', file], {
        commands: [policyExplain, policyStatus],
        sink,
        signal,
        version: 'test',
        connect: connectCluster,
      })
      return { code, out, err }
    }
    const explaining = (words: string) => typed('policy', 'explain', ...words.split(' '))

    const web = await explaining('shop/orders-0 --from shop/web --port 8080')
    t.match(web, {
      code: 0,
      out: /DENY postern-system\/no-tests\n(.|\n)*\nallowed by shop\/orders, rule 0\n$/,
    })
    const plain = await explaining('shop/orders-0 --from plaintext --port 8080')
    t.match(plain.out, /PSTN_PLAINTEXT_REFUSED/, 'the label of the namespace')
    const other = await explaining('shop/orders-0 --from spiffe://cluster.local/ns/shop/sa/web --port 8080')
    t.match(other.out, /denied with PSTN_POLICY_DENIED/, 'the injector’s trust domain is another')
    t.match(await explaining('shop/none --from plaintext --port 1'), { code: 1, err: /not found/ })
    const nobody = await explaining('shop/orders-0 --from shop/web --port 8080 --context nobody')
    t.match(nobody, { code: 1, err: /forbidden/ })

    const pod = await server.kube.get<{ metadata: { uid: string } }>('/api/v1/namespaces/shop/pods/orders-0')
    const report: SidecarReport = {
      podUid: pod.metadata.uid,
      pod: 'orders-0',
      namespace: 'shop',
      version: '1.0.0',
      replica: 'injector-0',
      roots: [],
      state: { version: 2, toldAt: '2030-01-01T00:00:00.000Z', applied: 2 },
      connectedSince: '2030-01-01T00:00:00.000Z',
    }
    let gathered: Gathered = { reports: [report], missing: [], unconnected: [] }
    const admin = undo.use(
      await serveAdmin({
        port: 0,
        log: createLogger('test', 'error'),
        answers: { '/sidecars': async () => gathered },
      }),
    )
    const status = (...words: readonly string[]) =>
      typed('policy', 'status', '--injector', `http://127.0.0.1:${admin.port}`, ...words)
    t.equal(
      (await status()).out,
      `POLICY                   KIND   IN FORCE ON
postern-system/no-tests  DENY   1 of 1 sidecars
shop/orders              ALLOW  1 of 1 sidecars
`,
    )
    t.match(await status('--namespace', 'shop'), { code: 0, out: /shop\/orders +ALLOW +1 of 1/ })
    gathered = {
      ...gathered,
      reports: [{ ...report, state: { version: 3, toldAt: '2030-01-02T00:00:00.000Z', applied: 2 } }],
    }
    t.match(await status(), {
      code: 1,
      out: /shop\/orders: not on shop\/orders-0: it was told at 2030-01-02T00:00:00.000Z and has not confirmed\n/,
    })
    gathered = { reports: [report], missing: [{ replica: 'injector-1', reason: 'silence' }], unconnected: [] }
    t.match(await status(), { code: 1, out: /replica injector-1 did not answer/ })
    gathered = { reports: [report], missing: [], unconnected: [] }

    const broken = policy('broken', 'shop', document('x', '{rules: [{form: []}]}'))
    t.equal((await server.kubectl(['apply', '-f', '-'], broken)).code, 0)
    const invalid = await explaining('shop/orders-0 --from shop/web --port 8080')
    t.match(invalid, { code: 1, out: '', err: /PSTN_POLICY_INVALID: the ConfigMap shop\/broken is invalid/ })
    t.match(await status(), { code: 1, out: /not in force as written: shop\/broken: a\.yaml:1:/ })
    t.equal((await server.kubectl(['apply', '-f', '-'], deployment(''))).code, 0)
    const unmounted = await explaining('shop/orders-0 --from shop/web --port 8080')
    t.match(unmounted, { code: 1, err: /PSTN_CONFIG_INVALID/ })
  },
)
