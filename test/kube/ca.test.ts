// The CA's Secret on a real API server: creation is a race that one replica wins, renewal a compare-and-swap.
import { readFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { bundleOf, type CaMaterial, createIssuer, createRoot } from '../../injector/ca/authority.ts'
import { type AuthorityKeeper, loadOrCreateAuthority } from '../../injector/ca/keeper.ts'
import { type SecretObject, toSecret } from '../../injector/ca/material.ts'
import {
  begin,
  dropRetired,
  fingerprintOf,
  replaceRoot,
  switchRoots,
  withoutRoot,
} from '../../injector/ca/rotation.ts'
import { publishStatus, statusOf } from '../../injector/ca/status.ts'
import { type CaPlace, readCa, readOrCreateCa, renewIssuer } from '../../injector/ca/store.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { until } from '../../shared/live.ts'
import { createLogger } from '../../shared/log.ts'
import { createRegistry } from '../../shared/metrics.ts'
import { CA_SECRET, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { eventually } from './support/signer-cluster.ts'

const skip = requireApiServer()
const DAY_MS = 86_400_000
const log = createLogger('test', 'error')
let server: ApiServer

t.before(async () => {
  if (!skip) server = await startApiServer()
})
t.teardown(() => server?.[Symbol.asyncDispose]())

async function place(namespace: string) {
  await server.kube.create('/api/v1/namespaces', { metadata: { name: namespace } })
  return { namespace, trustDomain: 'cluster.local' }
}
const secretPath = (namespace: string) => `/api/v1/namespaces/${namespace}/secrets/${CA_SECRET}`

/** Minutes pass in hundredths of a second, and weeks at a word. */
function hurried() {
  let offset = 0
  const clock: Clock = {
    now: () => Date.now() + offset,
    monotonic: systemClock.monotonic,
    sleep: (ms, signal) => systemClock.sleep(ms / 6_000, signal),
  }
  const pass = (ms: number) => {
    offset += ms
  }
  return { clock, pass }
}

t.test('replicas that start together agree on one CA', { skip }, async t => {
  const at = await place('together')
  const all = await Promise.all(Array.from({ length: 5 }, () => readOrCreateCa(server.kube, at, Date.now())))
  t.equal(new Set(all.map(({ material }) => material.root.certificate)).size, 1)
  t.equal(new Set(all.map(({ material }) => material.issuer.key)).size, 1)
})

t.test(
  'of two leaders that renew the issuer, one wins and both use it, under the same root',
  { skip },
  async t => {
    const at = await place('renewal')
    const before = await readOrCreateCa(server.kube, at, Date.now())
    const renewed = await Promise.all([1, 2].map(() => renewIssuer(server.kube, at, before, Date.now())))
    const [one, two] = renewed.map(({ material }) => material)
    t.same(one, two)
    t.same(one?.root, before.material.root)
    t.not(one?.issuer.certificate, before.material.issuer.certificate)
    t.same((await readCa(server.kube, at, Date.now())).material, one)
  },
)

t.test('an unusable CA is refused with its place, and never overwritten', { skip }, async t => {
  const at = await place('broken')
  const data = { 'root.crt': Buffer.from('mine').toString('base64') }
  await server.kube.create('/api/v1/namespaces/broken/secrets', { metadata: { name: CA_SECRET }, data })
  await t.rejects(readOrCreateCa(server.kube, at, Date.now()), {
    code: 'PSTN_CONFIG_INVALID',
    message: /broken\/postern-ca, root\.key: missing/,
  })
  t.match(await server.kube.get(secretPath('broken')), { data })
})

t.test('the leader renews a due issuer, and other replicas follow within a minute', { skip }, async t => {
  const at = await place('rotation')
  const stop = new AbortController()
  const { clock, pass } = hurried()
  const context = { kube: server.kube, clock, log, registry: createRegistry() }
  const leader = await loadOrCreateAuthority(context, at, stop.signal)
  const follower = await loadOrCreateAuthority({ ...context, registry: createRegistry() }, at, stop.signal)
  const loops = [leader.renew(stop.signal), follower.follow(stop.signal)]
  const first = follower.authority.get()
  await new Promise(resolve => setTimeout(resolve, 200))
  t.equal(follower.authority.get(), first, 'nothing changes while the issuer is young')
  pass(21 * DAY_MS)
  const newer = (value: typeof first): value is typeof first => value.issuer.serial !== first.issuer.serial
  const second = await until(follower.authority, newer, AbortSignal.timeout(10_000))
  t.same(second.roots, first.roots)
  t.equal(second.issuer.serial, leader.authority.get().issuer.serial)
  t.ok(second.issuer.isSignedBy(parseCertificate(first.roots[0] ?? '')))
  stop.abort()
  await Promise.all(loops)
})

t.test('a renewal keeps what people added to the Secret', { skip }, async t => {
  const at = await place('labelled')
  await readOrCreateCa(server.kube, at, Date.now())
  const added = {
    metadata: { labels: { 'backup.example': 'yes' }, annotations: { note: 'keep' } },
    data: { 'extra.txt': Buffer.from('mine').toString('base64') },
  }
  await server.kube.patch(secretPath('labelled'), 'application/merge-patch+json', added)
  const before = await readCa(server.kube, at, Date.now())
  const { material } = await renewIssuer(server.kube, at, before, Date.now())
  t.not(material.issuer.certificate, before.material.issuer.certificate)
  t.match(await server.kube.get(secretPath('labelled')), added)
})

/** A leader at work until the test ends; `headStartMs` is what following has before renewal. */
async function lead(t: Test, at: CaPlace, kube = server.kube, headStartMs = 0) {
  const stop = new AbortController()
  const { clock, pass } = hurried()
  const registry = createRegistry()
  const silent = createLogger('test', 'error')
  silent.level = 'silent'
  const keeper = await loadOrCreateAuthority({ kube, clock, log: silent, registry }, at, stop.signal)
  const renew = async () => {
    await new Promise(resolve => setTimeout(resolve, headStartMs))
    await keeper.renew(stop.signal)
  }
  const run = () => {
    const loops = [keeper.follow(stop.signal), renew()]
    t.teardown(async () => {
      stop.abort()
      await Promise.all(loops)
    })
  }
  const refused = (value: 0 | 1) =>
    eventually(
      async () => registry.render().includes(`postern_ca_refused ${value}\n`) || undefined,
      `postern_ca_refused ${value}`,
    )
  return { keeper, authority: keeper.authority, pass, refused, run }
}

t.test('the leader restores a Secret that was deleted, with what it held', { skip }, async t => {
  const at = await place('deleted')
  const { authority, run } = await lead(t, at)
  run()
  const path = secretPath('deleted')
  const label = { metadata: { labels: { 'backup.example': 'yes' } } }
  const { metadata } = await server.kube.patch<SecretObject>(path, 'application/merge-patch+json', label)
  await server.kube.delete(path)
  const found = await eventually(
    () => server.kube.get<SecretObject>(path).catch(() => undefined),
    'the Secret',
  )
  t.not(found.metadata.resourceVersion, metadata.resourceVersion)
  const restored = await readCa(server.kube, at, Date.now())
  t.same([parseCertificate(restored.material.root.certificate).pem], authority.get().roots)
})

t.test('a replica that starts without the Secret of a mesh makes no new root', { skip }, async t => {
  const at = await place('orphaned')
  const trust = { metadata: { name: TRUST_CONFIGMAP }, data: { 'roots.pem': 'a root' } }
  await server.kube.create('/api/v1/namespaces/orphaned/configmaps', trust)
  await t.rejects(readOrCreateCa(server.kube, at, Date.now()), {
    code: 'PSTN_CA_REFUSED',
    message: /orphaned\/postern-ca is gone/,
  })
  await server.kube.delete(`/api/v1/namespaces/orphaned/configmaps/${TRUST_CONFIGMAP}`)
  t.ok(await readOrCreateCa(server.kube, at, Date.now()), 'told to begin anew')
})

t.test('another root in the Secret is refused loudly, and never overwritten', { skip }, async t => {
  const at = await place('replaced')
  const { authority, pass, refused, run } = await lead(t, at)
  run()
  const before = authority.get()
  const own = await server.kube.get<SecretObject>(secretPath('replaced'))
  const root = await createRoot(at.trustDomain, Date.now())
  const issuer = await createIssuer(root, at.trustDomain, Date.now())
  const foreign = toSecret({ root, issuer }, at.namespace)
  await server.kube.replace(secretPath('replaced'), foreign)
  await refused(1)
  pass(21 * DAY_MS)
  await new Promise(resolve => setTimeout(resolve, 200))
  t.equal(authority.get(), before)
  const { data } = await server.kube.get<SecretObject>(secretPath('replaced'))
  t.same(data, foreign.data)
  const { resourceVersion: _, ...metadata } = own.metadata
  await server.kube.replace(secretPath('replaced'), { ...own, metadata })
  await refused(0)
  t.same(authority.get().roots, before.roots)
})

t.test('a backup of a rotation does not bring back a root that was revoked since', { skip }, async t => {
  const at = await place('revived')
  const now = Date.now()
  const asking = { by: 'alice', now }
  const [stolen, root] = [await createRoot(at.trustDomain, now), await createRoot(at.trustDomain, now)]
  const under = (signer: typeof root) => createIssuer(signer, at.trustDomain, now)
  const backup = begin({ root: stolen, issuer: await under(stolen) }, root, [], asking)
  const present = replaceRoot(backup, { root, issuer: await under(root) }, asking)
  const secrets = '/api/v1/namespaces/revived/secrets'
  await server.kube.create(secrets, toSecret(present, at.namespace))
  const { authority, refused, run } = await lead(t, at)
  run()
  const before = authority.get()
  await server.kube.replace(secretPath('revived'), toSecret(backup, at.namespace))
  await refused(1)
  t.equal(authority.get(), before)
  const status = statusOf(present, { waitingFor: [], unconfirmed: [], lingering: [] })
  await publishStatus(server.kube, at.namespace, status, new AbortController().signal)
  await t.rejects(readOrCreateCa(server.kube, at, now), {
    code: 'PSTN_CA_REFUSED',
    message: /trusts root .* again, which is revoked/,
  })
  await server.kube.replace(secretPath('revived'), toSecret(present, at.namespace))
  t.match(await readOrCreateCa(server.kube, at, now), { material: { root } }, 'the right one is taken')
})

t.test('nor one that was to be next and was given up', { skip }, async t => {
  const at = await place('given-up')
  const now = Date.now()
  const asking = { by: 'alice', now }
  const [root, next] = [await createRoot(at.trustDomain, now), await createRoot(at.trustDomain, now)]
  const backup = begin({ root, issuer: await createIssuer(root, at.trustDomain, now) }, next, [], asking)
  const secrets = '/api/v1/namespaces/given-up/secrets'
  await server.kube.create(
    secrets,
    toSecret(withoutRoot(backup, fingerprintOf(next.certificate), asking), at.namespace),
  )
  const { authority, refused, run } = await lead(t, at)
  run()
  const before = authority.get()
  await server.kube.replace(secretPath('given-up'), toSecret(backup, at.namespace))
  await refused(1)
  t.equal(authority.get(), before)
})

t.test('a backup from before a switch is not taken at a start, and the one of now is', { skip }, async t => {
  const at = await place('before-switch')
  const now = Date.now()
  const [old, root] = [await createRoot(at.trustDomain, now), await createRoot(at.trustDomain, now)]
  const under = (signer: typeof root) => createIssuer(signer, at.trustDomain, now)
  const backup = { root: old, issuer: await under(old) }
  const publishing = begin(backup, root, [], { by: 'alice', now })
  const switched = switchRoots(publishing, await under(root), now)
  const secrets = `/api/v1/namespaces/${at.namespace}/secrets`
  await server.kube.create(secrets, toSecret(backup, at.namespace))
  const told = async (material: CaMaterial) => {
    const status = statusOf(material, { waitingFor: [], unconfirmed: [], lingering: [] })
    await publishStatus(server.kube, at.namespace, status, new AbortController().signal)
    const path = `/api/v1/namespaces/${at.namespace}/configmaps`
    const trust = { metadata: { name: TRUST_CONFIGMAP }, data: { 'roots.pem': bundleOf(material).join('') } }
    await server.kube.delete(`${path}/${TRUST_CONFIGMAP}`).catch(() => {})
    await server.kube.create(path, trust)
  }
  await told(publishing)
  t.match(await readOrCreateCa(server.kube, at, now), { material: { root: old } }, 'nothing was signed yet')
  await told(switched)
  await t.rejects(readOrCreateCa(server.kube, at, now), {
    code: 'PSTN_CA_REFUSED',
    message: /lacks root .*, which signs/,
  })
  await server.kube.replace(secretPath(at.namespace), toSecret(switched, at.namespace))
  t.match(await readOrCreateCa(server.kube, at, now), { material: { root } })
  const over = dropRetired(switched, now)
  await server.kube.replace(secretPath(at.namespace), toSecret(over, at.namespace))
  t.match(
    await readOrCreateCa(server.kube, at, now),
    { material: { root } },
    'one that is newer than both is',
  )
})

t.test('who was told and fails keeps nobody on another CA than the one that is stored', { skip }, async t => {
  const at = await place('thrower')
  const { keeper, run } = await lead(t, at)
  keeper.stored.subscribe(() => {
    throw new Error('cannot be told')
  })
  run()
  await renewIssuer(server.kube, at, keeper.stored.get(), Date.now())
  await eventually(async () => (await isInUse(keeper, at)) || undefined, 'the issuer that is stored to sign')
})

const isInUse = async ({ authority }: AuthorityKeeper, at: CaPlace) => {
  const { material } = await readCa(server.kube, at, Date.now())
  return authority.get().issuer.pem === parseCertificate(material.issuer.certificate).pem
}

t.test('what was read before a renewal is not adopted after it', { skip }, async t => {
  const at = await place('stale')
  let slow = false
  const kube: Kube = {
    ...server.kube,
    get: async <T>(path: string, signal?: AbortSignal): Promise<T> => {
      const late = slow
      slow = false
      const found = await server.kube.get<T>(path, signal)
      if (late) await new Promise(resolve => setTimeout(resolve, 500))
      return found
    },
  }
  const { authority, pass, run } = await lead(t, at, kube, 100)
  const serials = [authority.get().issuer.serial]
  authority.subscribe(({ issuer }) => serials.push(issuer.serial))
  slow = true
  pass(21 * DAY_MS)
  run()
  await new Promise(resolve => setTimeout(resolve, 1_000))
  t.equal(serials.length, 2, 'one renewal')
  t.equal(new Set(serials).size, 2, 'and no return')
})

t.test('the backup that docs/operations.md makes brings the CA back', { skip }, async t => {
  const { kube, kubectl } = server
  const at = await place(SYSTEM_NAMESPACE)
  const before = await readOrCreateCa(kube, at, Date.now())
  const page = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  const [, args = '', template = ''] =
    /kubectl (\S.*secret postern-ca -o) (go-template='.*') > postern-ca\.yaml/.exec(page) ?? []
  t.ok(template, 'the page has the command')
  const backup = await kubectl([...args.split(' '), template.replaceAll("'", '')])
  t.equal(backup.code, 0, backup.stderr)
  await kube.delete(secretPath(SYSTEM_NAMESPACE))
  const restored = await kubectl(['apply', '-f', '-'], backup.stdout)
  t.equal(restored.code, 0, restored.stderr)
  const after = await readCa(kube, at, Date.now())
  t.same(after.material, before.material)
})
