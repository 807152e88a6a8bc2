// Two meshes of different trust domains that fetch each other's bundle from its real endpoint, over https: the first fetch, a
// rotation that the partner learns of by asking again, and an endpoint that is away or not itself, all under traffic both ways.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { V1ConfigMap } from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { caRotate } from '../../cli/ca/rotate.ts'
import { run } from '../../cli/run.ts'
import { createRoot } from '../../injector/ca/authority.ts'
import { type FetchedBundle, parseFetched } from '../../shared/federation/fetched.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { PARTNERS_CONFIGMAP } from '../../shared/names.ts'
import { writeSpiffeBundle } from '../../shared/spiffe-bundle.ts'
import { systemPath, until } from '../kube/support/installation.ts'
import { createAuthority } from '../support/authority.ts'
import type { RunningPod } from '../support/namespace-kubelet.ts'
import { type Application, startApplication } from '../support/netns-applications.ts'
import { type Mesh, POD_PREFIXES, startMesh } from '../support/netns-mesh.ts'
import { isWhole } from '../support/netns-pair.ts'
import { freePorts } from '../support/processes.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type SwitchedPort, switchedPort } from '../support/switched-port.ts'
import {
  ANSWER,
  allow,
  EAST,
  idIn,
  introduce,
  PORT,
  phaseOf,
  rootsOf,
  TALK,
  WEST,
} from '../support/two-meshes.ts'
import { jsonAnswer, startWebServer } from '../support/web-server.ts'

/** The shortest: a next root is published for three of them. */
const HINT_SECONDS = 60

async function fetchedOf({ kube }: Mesh, trustDomain: string): Promise<FetchedBundle | undefined> {
  const path = systemPath(`configmaps/${PARTNERS_CONFIGMAP}`)
  const configMap = await kube.get<V1ConfigMap>(path).catch(() => undefined)
  const json = configMap?.data?.[trustDomain]
  return json === undefined ? undefined : parseFetched(trustDomain, json)
}

async function within(seconds: number, done: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + seconds * 1000
  while (!(await done())) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s`)
    await delay(500)
  }
}

t.test('two meshes that fetch', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const authority = await createAuthority('web')
  const bundleCertificateDir = join(scratchDirectory(t), 'web')
  await mkdir(bundleCertificateDir)
  const { cert, key } = await authority.issue({ commonName: 'bundle', dns: ['localhost'] })
  await writeFile(join(bundleCertificateDir, 'tls.crt'), cert)
  await writeFile(join(bundleCertificateDir, 'tls.key'), key)
  const [eastPort = 0, westPort = 0] = await freePorts(2)
  const served = { bundleCertificateDir, bundleRefreshHintSeconds: HINT_SECONDS }
  const east = await startMesh(t, stack, {
    settings: { ...served, trustDomain: EAST, bundlePort: eastPort },
  })
  const west = await startMesh(t, stack, {
    beside: east,
    leafSeconds: 30,
    settings: { ...served, trustDomain: WEST, bundlePort: westPort },
  })
  const eastEndpoint = stack.use(await switchedPort(eastPort))
  const [web, orders] = [await east.start('web'), await west.start('orders')]
  const webApp = await startApplication(web.namespace)
  const ordersApp = await startApplication(orders.namespace)
  for (const app of [webApp, ordersApp]) await app.serve({ port: PORT, meet: true, script: ANSWER })
  await allow(west, 'orders', idIn(EAST, 'web'))
  await allow(east, 'web', idIn(WEST, 'orders'))
  let dials = 0
  const dial = (from: Application, { ipv4 }: RunningPod) => {
    dials += 1
    return from.dial({ host: ipv4, port: PORT, introduce: dials, script: TALK, timeoutMs: 60_000 })
  }
  const ways = [() => dial(webApp, orders), () => dial(ordersApp, web)]
  const endpoint = (port: number) => ({
    endpoint: { url: `https://localhost:${port}/bundle.json`, caBundle: authority.cert },
  })
  const at = (index: 0 | 1, trustDomain: string) =>
    POD_PREFIXES[index].map(cidr => ({ cidr, identities: [`spiffe://${trustDomain}/*`] }))

  await t.test('a partner whose endpoint does not answer is trusted in nobody, and not called', async t => {
    eastEndpoint.target = undefined
    await introduce(east, WEST, endpoint(westPort), at(1, WEST))
    await introduce(west, EAST, endpoint(eastEndpoint.port), at(0, EAST))
    await until(async () => (await fetchedOf(west, EAST))?.failure?.code === 'PSTN_PARTNER_UNREACHABLE')
    t.same((await fetchedOf(west, EAST))?.roots, [])
    t.notOk(isWhole(await dial(webApp, orders)))
    t.notOk(isWhole(await dial(ordersApp, web)))
  })

  await t.test('each fetches the other’s roots, and their pods talk both ways', async t => {
    eastEndpoint.target = eastPort
    for (const [own, other, domain] of [
      [east, west, WEST],
      [west, east, EAST],
    ] as const) {
      await until(async () => ((await fetchedOf(own, domain))?.roots.length ?? 0) > 0)
      const fetched = await fetchedOf(own, domain)
      t.same(fetched?.roots, await rootsOf(other))
      t.match(fetched, { refreshHintSeconds: HINT_SECONDS })
      t.notOk(fetched?.failure)
    }
    for (const way of ways) await until(async () => isWhole(await way()))
  })

  await t.test(
    'a root of one is rotated, and the endpoint of the other is away and not itself: no connection fails',
    async t => {
      const failed: unknown[] = []
      const over = new AbortController()
      const traffic = Promise.all(ways.map(way => keepTalking(way, failed, over.signal)))
      const strange = { west, endpoint: eastEndpoint, eastPort, authority }
      await Promise.all([rotates(t, { east, west, orders }), goesWrong(t, strange)]).finally(() =>
        over.abort(),
      )
      const counts = await traffic
      t.same(failed, [])
      t.ok(Math.min(...counts) > 100, `${counts.join(' and ')} connections, one way and the other`)
      t.comment(`${counts.join(' and ')} connections`)
    },
  )
})

async function keepTalking(
  talk: () => ReturnType<Application['dial']>,
  failed: unknown[],
  signal: AbortSignal,
): Promise<number> {
  let count = 0
  while (!signal.aborted) {
    const transcript = await talk()
    count += 1
    if (!isWhole(transcript)) failed.push(transcript)
    await delay(100)
  }
  return count
}

type Meshes = { readonly east: Mesh; readonly west: Mesh; readonly orders: RunningPod }

/** Nobody tells the partner. */
async function rotates(t: Test, { east, west, orders }: Meshes): Promise<void> {
  const [old = ''] = await rootsOf(west)
  const asked = performance.now()
  const seconds = () => Math.round((performance.now() - asked) / 1000)
  const typed = await run(['ca', 'rotate'], {
    commands: [caRotate],
    sink: { out: () => {}, err: text => t.comment(text.trim()) },
    signal: AbortSignal.timeout(60_000),
    version: 'test',
    connect: async () => connectKube(west.server.endpoint),
  })
  t.equal(typed, 0)
  await within(100, async () => (await fetchedOf(east, WEST))?.roots.length === 2)
  t.comment(`the next root was noticed after ${seconds()} s`)
  t.equal(await phaseOf(west), 'publishing', 'and it does not sign yet')
  t.ok((await fetchedOf(east, WEST))?.roots.includes(old))
  await within(3 * HINT_SECONDS + 60, async () => (await phaseOf(west)) === 'switched')
  t.comment(`it signs after ${seconds()} s`)
  const issued = () => orders.lines.filter(({ msg }) => msg === 'certificate issued').length
  const before = issued()
  await within(60, async () => issued() >= before + 2)
}

type Strange = {
  readonly west: Mesh
  readonly endpoint: SwitchedPort
  readonly eastPort: number
  readonly authority: Awaited<ReturnType<typeof createAuthority>>
}

/** What west knows of east stays, whatever comes from its URL. */
async function goesWrong(t: Test, { west, endpoint, eastPort, authority }: Strange): Promise<void> {
  const known = await fetchedOf(west, EAST)
  const { certificate } = await createRoot('north.example', Date.now())
  const north = writeSpiffeBundle({ trustDomain: 'north.example', roots: [certificate] })
  await using impostor = await startWebServer(jsonAnswer(north), 0, authority)
  const told = async (code: string, reason: RegExp) => {
    const isTold = ({ failure }: FetchedBundle) => failure?.code === code && reason.test(failure.reason)
    await within(100, async () => {
      const now = await fetchedOf(west, EAST)
      return now !== undefined && isTold(now)
    })
    const { roots, fetchedAt } = (await fetchedOf(west, EAST)) ?? {}
    t.same(roots, known?.roots, `${code} ${reason}`)
    return fetchedAt
  }
  endpoint.target = undefined
  const lastGood = await told('PSTN_PARTNER_UNREACHABLE', /./)
  endpoint.target = Number(new URL(impostor.url).port)
  t.equal(await told('PSTN_PARTNER_INVALID', /north\.example, not east\.example/), lastGood)
  impostor.answer = jsonAnswer('{"keys": [')
  t.equal(await told('PSTN_PARTNER_INVALID', /not JSON/), lastGood)
  endpoint.target = eastPort
  await within(100, async () => (await fetchedOf(west, EAST))?.failure === undefined)
  t.not((await fetchedOf(west, EAST))?.fetchedAt, lastGood, 'and it heals')
}
