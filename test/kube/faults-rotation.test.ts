// A rotation of the root whose leader dies just before or after each of its writes, and one that two lead at once: it comes to
// the same end, by one new root, answered once. On a real API server; nobody but the leaders, since what is asked of the mesh
// is the affair of test/kube/root-rotation.test.ts.
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { loadOrCreateAuthority } from '../../injector/ca/keeper.ts'
import type { SecretObject } from '../../injector/ca/material.ts'
import { createRotator } from '../../injector/ca/rotator.ts'
import { readCa } from '../../injector/ca/store.ts'
import { ownTrust } from '../../injector/trust/own-trust.ts'
import { publishTrust } from '../../injector/trust/publisher.ts'
import { CA_REQUEST_PREFIX } from '../../shared/ca/request.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { live } from '../../shared/live.ts'
import { createLogger } from '../../shared/log.ts'
import { createRegistry } from '../../shared/metrics.ts'
import { CA_SECRET, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { systemPath } from './support/installation.ts'
import { type Death, mortalKube } from './support/mortal-kube.ts'
import { eventually } from './support/signer-cluster.ts'

const skip = requireApiServer()
const TRUST_DOMAIN = 'cluster.local'
const PLACE = { namespace: SYSTEM_NAMESPACE, trustDomain: TRUST_DOMAIN }
const SECRET = systemPath(`secrets/${CA_SECRET}`)
const MERGE = 'application/merge-patch+json'
const LIFE_MS = 300
/** The request's answer, the publication, the status, the switch, when the old root goes, its end: and what is told between. */
const WRITES = 9
const log = createLogger('test', 'error')
log.level = 'silent'
let server: ApiServer

/** Waits are a fiftieth of what they are. */
const clock: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 50, signal) }

t.before(async () => {
  if (skip) return
  server = await startApiServer()
  await server.kube.create('/api/v1/namespaces', { metadata: { name: SYSTEM_NAMESPACE } })
})
t.teardown(() => server?.[Symbol.asyncDispose]())

const print = (pem: string) => parseCertificate(pem).fingerprint256
const present = async () => (await readCa(server.kube, PLACE, Date.now())).material

/** The roots of each Secret that was written, whoever wrote it. */
function recording(kube: Kube, roots: Set<string>): Kube {
  return {
    ...kube,
    replace: async <T>(path: string, body: T, signal?: AbortSignal): Promise<T> => {
      const written = await kube.replace<T>(path, body, signal)
      const { data = {} } = path === SECRET ? (body as SecretObject) : {}
      for (const key of ['root.crt', 'next-root.crt']) {
        const pem = Buffer.from(data[key] ?? '', 'base64').toString()
        if (pem) roots.add(print(pem))
      }
      return written
    },
  }
}

/** A replica that leads from now on; killed, it does nothing more. */
async function leader(t: Test, roots: Set<string>, death?: Death) {
  const { kube, kill, died } = mortalKube(recording(server.kube, roots), death)
  const stop = new AbortController()
  const context = { kube, clock, log, registry: createRegistry(), random: Math.random }
  const keeper = await loadOrCreateAuthority(context, PLACE, stop.signal)
  const rotator = createRotator({
    ...context,
    place: PLACE,
    reports: { gather: async () => ({ reports: [], missing: [], unconnected: [] }) },
    world: { pods: new Map() },
    revoked: live(() => undefined),
    longestLeafMs: LIFE_MS,
    settleMs: () => 100,
    keeper,
  })
  const bundle = ownTrust(TRUST_DOMAIN, keeper.stored, live([]))
  const running = Promise.all([
    keeper.follow(stop.signal),
    keeper.renew(stop.signal),
    rotator.run(stop.signal),
    publishTrust({ ...context, bundle }, stop.signal),
  ])
  const end = async () => {
    kill()
    stop.abort()
    await running
  }
  t.teardown(end)
  return { died, end }
}

let asked = 0
async function ask(): Promise<string> {
  asked += 1
  const id = asked.toString(16).padStart(16, '0')
  const request = JSON.stringify({ kind: 'rotate', skip: [], by: 'admin', at: new Date().toISOString() })
  const annotations = { [CA_REQUEST_PREFIX + id]: request }
  await server.kube.patch(SECRET, MERGE, { metadata: { annotations } })
  return id
}

/** The end of the rotation that was asked for, from where the CA was before. */
async function comesToItsEnd(t: Test, before: string, id: string, roots: Set<string>) {
  const material = await eventually(async () => {
    const now = await present()
    return print(now.root.certificate) !== before && now.record?.phase === 'idle' ? now : undefined
  }, 'the end of the rotation')
  const root = print(material.root.certificate)
  const { former = [], answers = [] } = material.record ?? {}
  t.match(former[0], { fingerprint: before, end: 'retired', by: 'admin' })
  t.same(
    answers.filter(answer => answer.id === id).map(({ done }) => done),
    ['done'],
    'answered once',
  )
  t.same(
    [...roots].filter(other => other !== before),
    [root],
    'by one new root',
  )
  const published = async () => {
    const { data = {} } = await server.kube.get<{ data?: Record<string, string> }>(
      systemPath(`configmaps/${TRUST_CONFIGMAP}`),
    )
    const is =
      splitPem(data['roots.pem'] ?? '')
        .map(print)
        .join() === root
    return (is && data['retired-roots']?.split(',')[0] === before) || undefined
  }
  t.ok(await eventually(published, 'what is published to be it'))
}

/** There is a CA, published, and the fingerprint of its root. */
async function begun(t: Test): Promise<string> {
  const first = await leader(t, new Set())
  const path = systemPath(`configmaps/${TRUST_CONFIGMAP}`)
  await eventually(() => server.kube.get(path).catch(() => undefined), 'the first publication')
  await first.end()
  return print((await present()).root.certificate)
}

for (let write = 1; write <= WRITES; write += 1)
  for (const when of ['before', 'after'] as const)
    t.test(`a leader that dies just ${when} its write ${write}`, { skip }, async t => {
      const before = await begun(t)
      const roots = new Set<string>()
      const first = await leader(t, roots, { when, write })
      const id = await ask()
      const late = once(AbortSignal.timeout(20_000), 'abort').then(() => false)
      t.ok(await Promise.race([first.died.then(() => true), late]), 'it died')
      await first.end()
      await leader(t, roots)
      await comesToItsEnd(t, before, id, roots)
    })

t.test('two that lead at once', { skip }, async t => {
  const before = await begun(t)
  const roots = new Set<string>()
  await Promise.all([leader(t, roots), leader(t, roots)])
  const id = await ask()
  await comesToItsEnd(t, before, id, roots)
})
