// Applications that do TLS themselves, with the files of `postern.dev/cert-files`, behind two sidecars on a real API server:
// nginx and Node as docs/cert-files.md has them, and curl, in both directions, while everything is rotated.
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { caRotate } from '../../cli/ca/rotate.ts'
import { run } from '../../cli/run.ts'
import { NAMESPACE_LABELS } from '../../shared/injection/annotations.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { until } from '../kube/support/installation.ts'
import { AS_WORKLOAD, curl, startNginx, startNode } from '../support/cert-files-applications.ts'
import { memoryVolume } from '../support/memory-volume.ts'
import { isConnection, isReady, metricsOf, startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** Renewed after 12 to 18 seconds: names of requests that were answered are free again in time. */
const LEAF_SECONDS = 36
const PORT = 8443
const HOOK_PORT = 8081
const lacking = requireNetns() || requireApiServer() || requireCommands('nginx', 'perl', 'curl', 'setpriv')

t.test('certificate files', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const settings = { maxServingLifetimeSeconds: LEAF_SECONDS }
  const mesh = await startMesh(t, stack, { leafSeconds: LEAF_SECONDS, settings })
  const { kube } = mesh
  const directory = scratchDirectory(t)
  for (const service of ['web', 'api'])
    await kube.create('/api/v1/namespaces/shop/services', {
      metadata: { name: service },
      spec: { selector: { app: service }, ports: [{ port: PORT }] },
    })
  const annotations = {
    'postern.dev/cert-files': 'app',
    'postern.dev/cert-files-hook': `${HOOK_PORT}/reload`,
  }
  const startPod = async (name: string) => {
    const files = memoryVolume(t)
    const place = join(directory, name)
    mkdirSync(place)
    const pod = await mesh.start(name, { annotations, volumes: { 'postern-cert-files': files } })
    return { pod, files, place: { namespace: pod.namespace, directory: place, files } }
  }
  const [web, api] = await Promise.all([startPod('web'), startPod('api')])
  type Pod = typeof web
  const read = ({ files }: Pod, name: string) => readFileSync(join(files, name), 'utf8')
  const leafOf = (pod: Pod) => new X509Certificate(read(pod, 'tls.crt'))
  /** `to`'s Service, at its address, as `from`. */
  const ask = (from: Pod, to: Pod, ...options: readonly string[]) => {
    const host = to === web ? 'web.shop.svc' : 'api.shop.svc'
    const at = ['--resolve', `${host}:${PORT}:${to.pod.ipv4}`]
    return curl(from.pod.namespace, from.files, ...at, ...options, `https://${host}:${PORT}/`)
  }

  await t.test('the files are there once the sidecar is ready, for anybody who can come near', async t => {
    for (const [{ files }, name] of [
      [web, 'web'],
      [api, 'api'],
    ] as const) {
      for (const file of ['tls.key', 'tls.crt', 'ca.crt', 'tls-combined.pem'])
        t.equal(statSync(join(files, file)).mode & 0o777, 0o444, file)
      const leaf = new X509Certificate(readFileSync(join(files, 'tls.crt')))
      t.match(leaf.subject, new RegExp(`^CN=${name}$`, 'm'))
      t.equal(
        leaf.subjectAltName,
        `URI:spiffe://cluster.local/ns/shop/sa/${name}, DNS:${name}.shop.svc, DNS:${name}.shop.svc.cluster.local`,
      )
      t.equal(splitPem(readFileSync(join(files, 'tls.crt'), 'utf8')).length, 2, 'the issuer with it')
    }
  })

  startNginx(web.place)
  startNode(api.place)

  await t.test('nginx is reached by curl with the files of another pod, in the tunnel', async t => {
    await until(async () => (await ask(api, web, ...AS_WORKLOAD)).status === 0)
    t.match((await ask(api, web, ...AS_WORKLOAD)).stdout, /CN=api/, 'it knows who calls')
    t.match(await web.pod.line(isConnection({ direction: 'inbound', via: 'tunnel', outcome: 'ok' })), {
      source: { identity: 'spiffe://cluster.local/ns/shop/sa/api' },
      destination: { port: PORT },
    })
  })

  await t.test('and the other way: Node’s server, by curl with the files of the pod with nginx', async t => {
    await until(async () => (await ask(web, api, ...AS_WORKLOAD)).status === 0)
    t.match((await ask(web, api, ...AS_WORKLOAD)).stdout, /URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web/)
  })

  await t.test('without what it has from its files, curl gets nowhere', async t => {
    const unnamed = await ask(api, web, '--cacert', 'ca.crt')
    t.match(unnamed.stdout, /400 No required SSL certificate was sent/)
    t.equal(
      (await ask(api, web, '--cert', 'tls.crt', '--key', 'tls.key')).status,
      60,
      'the public web’s roots',
    )
    const at = ['--connect-to', `::${web.pod.ipv4}:${PORT}`]
    for (const [host, status] of [
      ['web.shop.svc.cluster.local', 0],
      ['web.shop', 60],
      ['web', 60],
      ['api.shop.svc', 60],
    ] as const) {
      const asked = curl(api.pod.namespace, api.files, ...at, ...AS_WORKLOAD, `https://${host}:${PORT}/`)
      t.equal((await asked).status, status, host)
    }
  })

  await t.test(
    'a caller without a sidecar is let in by permissive, as nobody, and not by strict',
    async t => {
      const plain = await mesh.startPlain('plain')
      const asPlain = () =>
        curl(
          plain.namespace,
          api.files,
          ...['--connect-to', `::${web.pod.ipv4}:${PORT}`, ...AS_WORKLOAD, `https://web.shop.svc:${PORT}/`],
        )
      t.match((await asPlain()).stdout, /CN=api/, 'nginx checks what it shows; the sidecar sees bytes')
      await web.pod.line(isConnection({ direction: 'inbound', via: 'plaintext', outcome: 'ok' }))
      const label = (mode: string) =>
        kube.patch('/api/v1/namespaces/shop', 'application/merge-patch+json', {
          metadata: { labels: { [NAMESPACE_LABELS.mode.key]: mode } },
        })
      await label('strict')
      await until(async () => (await asPlain()).status === 35)
      await web.pod.line(isConnection({ code: 'PSTN_PLAINTEXT_REFUSED' }))
      t.equal((await ask(api, web, ...AS_WORKLOAD)).status, 0, 'the mesh goes on')
    },
  )

  const failures: string[] = []
  const answered = { web: 0, api: 0 }
  const served = { web: new Set<string>(), api: new Set<string>() }
  const going = new AbortController()
  const traffic = async (from: Pod, to: Pod, name: 'web' | 'api') => {
    while (!going.signal.aborted) {
      const { status, stdout, stderr } = await ask(from, to, ...AS_WORKLOAD, '--write-out', '%{certs}')
      const [leaf] = splitPem(stdout)
      if (status === 0 && leaf) {
        answered[name] += 1
        served[name].add(new X509Certificate(leaf).serialNumber)
      } else failures.push(`${name}: ${status} ${stderr.trim()} ${stdout.slice(0, 100)}`)
      await delay(50)
    }
  }
  const running = Promise.all([traffic(api, web, 'web'), traffic(web, api, 'api')])
  const isUnder = (pod: Pod, root: string) => {
    const [, issuer = ''] = splitPem(read(pod, 'tls.crt'))
    return new X509Certificate(issuer).verify(new X509Certificate(root).publicKey)
  }
  const isServed = async (pod: Pod, name: 'web' | 'api') =>
    until(async () => served[name].has(leafOf(pod).serialNumber))

  const [old = ''] = splitPem(read(web, 'ca.crt'))
  const roots = (pod: Pod) => splitPem(read(pod, 'ca.crt'))
  const both = (test: (pod: Pod) => boolean) => within(150_000, () => test(web) && test(api))

  await t.test('a rotation of the root, which takes until the end: both have the next one', async t => {
    const code = await run(['ca', 'rotate'], {
      commands: [caRotate],
      sink: { out: () => {}, err: text => t.comment(text.trim()) },
      signal: AbortSignal.timeout(60_000),
      version: 'test',
      connect: async () => connectKube(mesh.server.endpoint),
    })
    t.equal(code, 0)
    await both(pod => roots(pod).length === 2)
    t.ok(roots(web).includes(old))
  })

  await t.test('three rotations of both, with every request answered', async t => {
    await within(60_000, () => served.web.size > 3 && served.api.size > 3)
    await Promise.all([isServed(web, 'web'), isServed(api, 'api')])
    t.same(failures, [])
    t.comment(`${answered.web} and ${answered.api} requests`)
    const metric = await metricsOf(web.pod)
    t.ok(metric('postern_cert_files_hook_calls_total{outcome="answered"}') >= 3)
    t.equal(metric('postern_cert_files_hook_calls_total{outcome="PSTN_CERT_HOOK_FAILED"}'), 0)
  })

  await t.test('a connection that is kept goes on over rotations', async t => {
    const urls = [`https://api.shop.svc:${PORT}/[1-200]`]
    const at = ['--resolve', `api.shop.svc:${PORT}:${api.pod.ipv4}`]
    const before = leafOf(api).serialNumber
    const { status, stdout } = await curl(
      web.pod.namespace,
      web.files,
      ...[...at, ...AS_WORKLOAD, '--max-time', '30', '--rate', '10/s', '--output', '/dev/null'],
      ...['--write-out', '%{http_code} %{num_connects}\n', ...urls],
    )
    t.equal(status, 0)
    const lines = stdout.trim().split('\n')
    t.same(lines, ['200 1', ...Array.from({ length: 199 }, () => '200 0')])
    t.not(leafOf(api).serialNumber, before)
  })

  await t.test('a hook that fails is pending, and asked again until it answers', async t => {
    const config = join(web.place.directory, 'nginx.conf')
    const good = readFileSync(config, 'utf8')
    const pending = async () => (await metricsOf(web.pod))('postern_cert_files_hook_pending')
    const failed = async () =>
      (await metricsOf(web.pod))('postern_cert_files_hook_calls_total{outcome="PSTN_CERT_HOOK_FAILED"}') > 0
    t.equal(await pending(), 0)
    writeFileSync(config, `${good}nonsense;`)
    await until(failed)
    t.equal(await pending(), 1)
    writeFileSync(config, good)
    const line = await web.pod.line(({ msg }) => msg === 'certificate files hook failed')
    t.match(line, { code: 'PSTN_CERT_HOOK_FAILED', error: 'it answered with 500', attempt: 1 })
    await until(async () => (await pending()) === 0)
    await isServed(web, 'web')
    t.same(failures, [], 'nginx went on with what it had')
  })

  await t.test('the new root signs, and then the old one is gone from both, unnoticed', async t => {
    await both(pod => roots(pod)[0] !== old && isUnder(pod, roots(pod)[0] ?? ''))
    await both(pod => roots(pod).length === 1)
    t.notOk(roots(web).includes(old))
    await Promise.all([isServed(web, 'web'), isServed(api, 'api')])
    t.same(failures, [])
    t.comment(`${answered.web} and ${answered.api} requests`)
  })

  going.abort()
  await running
  t.same(failures, [])

  await t.test('a sidecar that is killed leaves its files, and finds them', async t => {
    const [leaf, data] = [read(web, 'tls.crt'), readlinkSync(join(web.files, '..data'))]
    const exited = once(web.pod.sidecar, 'exit')
    web.pod.sidecar.kill('SIGKILL')
    await exited
    t.equal(read(web, 'tls.crt'), leaf)
    web.pod.restart()
    const found = await web.pod.line(({ msg }) => msg === 'certificate files found')
    t.match(found, { directory: data, serial: leafSerial(leaf) })
    await until(() => isReady(web.pod))
    await until(async () => (await ask(api, web, ...AS_WORKLOAD)).status === 0)
  })
})

const leafSerial = (chain: string): string => new X509Certificate(chain).serialNumber.toLowerCase()

async function within(ms: number, test: () => boolean): Promise<void> {
  for (const deadline = performance.now() + ms; !test(); await delay(100))
    if (performance.now() > deadline) throw new Error(`not within ${ms / 1000} s`)
}
