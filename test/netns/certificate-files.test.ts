// A sidecar whose certificate something else writes into a volume, and one with the CSR API, under one CA: the files are
// rotated each second, in every way in which writers write, and no request is lost.
import { once } from 'node:events'
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { until } from '../kube/support/installation.ts'
import { writeAtomically } from '../support/atomic-writer.ts'
import type { LogLine, RunningPod } from '../support/namespace-kubelet.ts'
import { startApplication } from '../support/netns-applications.ts'
import { isConnection, isReady, metricsOf, startMesh } from '../support/netns-mesh.ts'
import { meshAuthority, type Rotated, rotated } from '../support/outside-rotator.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'

const PORT = 8080
const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/files'
const ROTATIONS = 12

const serialsOf = (pod: RunningPod): Set<unknown> =>
  new Set(
    pod.lines
      .filter(({ msg }) => msg === 'connection')
      .flatMap(({ source, destination }: LogLine) => [source, destination])
      .filter(peer => Reflect.get(Object(peer), 'identity') === IDENTITY)
      .map(peer => Reflect.get(Object(peer), 'serial')),
  )

t.test('a certificate from files', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const authority = await meshAuthority(mesh.kube)
  const volume = scratchDirectory(t)
  chmodSync(volume, 0o755)
  const [key, chain] = [join(volume, 'tls.key'), join(volume, 'tls.crt')]
  const fresh = (identity = IDENTITY, seconds = 60) => rotated(authority, identity, seconds)
  const swap = (made: Rotated) => writeAtomically(volume, { 'tls.key': made.key, 'tls.crt': made.chain })
  const first = await fresh()
  swap(first)

  const annotations = {
    'postern.dev/certificate-source': 'files',
    'postern.dev/certificate-volume': 'certificate',
  }
  const [files, other] = await Promise.all([
    mesh.start('files', { annotations, volumes: { certificate: volume } }),
    mesh.start('other'),
  ])
  const [filesApp, otherApp] = await Promise.all([
    startApplication(files.namespace),
    startApplication(other.namespace),
  ])
  await Promise.all([filesApp.serveHttp({ port: PORT }), otherApp.serveHttp({ port: PORT })])

  await t.test('the sidecar is ready with what the files hold, and has asked nobody for it', async t => {
    t.match(await files.line(({ msg }) => msg === 'certificate taken'), {
      identity: IDENTITY,
      serial: first.serial,
      source: `${key}, ${chain}`,
    })
    const path = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
    const { items } = await mesh.kube.get<{ items: { metadata: { name: string } }[] }>(path)
    const asked = (pod: RunningPod) =>
      items.some(({ metadata }) => metadata.name.includes(pod.pod.metadata?.uid ?? '-'))
    t.notOk(asked(files))
    t.ok(asked(other), 'as the other one has')
  })

  await t.test('files rotate each second in every way, and no request is lost either way', async t => {
    const replace = (path: string, text: string) => {
      writeFileSync(`${path}.new`, text)
      renameSync(`${path}.new`, path)
    }
    const inPlace = async (path: string, text: string) => {
      writeFileSync(path, text.slice(0, text.length / 2))
      await delay(300)
      writeFileSync(path, text)
    }
    const ways = [
      async (made: Rotated) => swap(made),
      async (made: Rotated) => {
        replace(key, made.key)
        await delay(300)
        replace(chain, made.chain)
      },
      async (made: Rotated) => {
        await inPlace(chain, made.chain)
        await inPlace(key, made.key)
      },
      async (made: Rotated) => {
        for (const path of [key, chain]) rmSync(path)
        await delay(300)
        swap(made)
      },
    ]
    let over = false
    const counts: Record<string, number> = {}
    const load = async (app: typeof filesApp, host: string) => {
      while (!over) {
        const some = await app.requestMany({ host, port: PORT, count: 100, connections: 4, bytes: 1_000 })
        for (const [outcome, count] of Object.entries(some)) counts[outcome] = (counts[outcome] ?? 0) + count
      }
    }
    const loads = [load(filesApp, other.ipv4), load(otherApp, files.ipv4), load(otherApp, files.ipv6)]
    for (let made = 0; made < ROTATIONS; made += 1) {
      await ways[made % ways.length]?.(await fresh())
      await delay(1_200)
    }
    over = true
    await Promise.all(loads)
    t.strictSame(Object.keys(counts), ['200'], JSON.stringify(counts))
    t.comment(`${counts['200']} requests`)
    const taken = files.lines.filter(({ msg }) => msg === 'certificate taken').length
    t.ok(taken >= ROTATIONS, `${taken} certificates were taken`)
    t.strictSame(
      files.lines.filter(({ msg }) => msg === 'certificate failed'),
      [],
    )
    t.ok(serialsOf(other).size >= ROTATIONS / 2, `${serialsOf(other).size} of them were seen by the peer`)
  })

  await t.test('files of another identity are refused and told, and what is held goes on', async t => {
    const held = await fresh()
    swap(held)
    await files.line(({ msg, serial }) => msg === 'certificate taken' && serial === held.serial)
    swap(await fresh('spiffe://cluster.local/ns/shop/sa/other'))
    const line = await files.line(({ msg }) => msg === 'certificate failed')
    t.match(line, { code: 'PSTN_SOURCE_INVALID', error: /sa.other, not for .*sa.files/, level: 'warn' })
    t.strictSame(
      await filesApp.requestMany({ host: other.ipv4, port: PORT, count: 20, connections: 2, bytes: 10 }),
      {
        '200': 20,
      },
    )
    t.equal((await metricsOf(files))('postern_certificate_requests_total{outcome="PSTN_SOURCE_INVALID"}'), 1)
  })

  await t.test(
    'a container that is restarted while the files are broken serves with what it held',
    async t => {
      const exited = once(files.sidecar, 'exit')
      files.sidecar.kill('SIGKILL')
      await exited
      files.restart()
      await files.line(({ msg }) => msg === 'certificate restored')
      await until(() => isReady(files))
      t.strictSame(
        await filesApp.requestMany({ host: other.ipv4, port: PORT, count: 20, connections: 2, bytes: 10 }),
        {
          '200': 20,
        },
      )
      await other.line(isConnection({ direction: 'inbound', via: 'tunnel', outcome: 'ok' }))
    },
  )

  await t.test('and when they are whole again, they are taken', async () => {
    const made = await fresh()
    swap(made)
    await files.line(({ msg, serial }) => msg === 'certificate taken' && serial === made.serial)
  })
})
