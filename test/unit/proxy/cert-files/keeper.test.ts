import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { CertFilesEvent } from '../../../../proxy/cert-files/events.ts'
import { openCertFiles } from '../../../../proxy/cert-files/keeper.ts'
import type { Credential } from '../../../../proxy/credentials/credential.ts'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import type { Clock } from '../../../../shared/clock.ts'
import { live } from '../../../../shared/live.ts'
import type { TrustBundle } from '../../../../shared/trust-bundle.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { memoryVolume } from '../../../support/memory-volume.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/cart'
const authority = await testAuthority('cluster.local')
const next = await testAuthority('cluster.local', 'CN=next root')
const issue = async (): Promise<Credential> => (await authority.issue({ identity: IDENTITY })).credential()
const [first, second] = [await issue(), await issue()]
const BOTH: TrustBundle = { ...authority.bundle, roots: [authority.root, next.root] }

/** The application's hook: what it answers, and when it was asked. */
async function application(t: Test) {
  const hook = { statuses: [] as (number | 'hang')[], asked: 0, port: 0 }
  const server = createServer((_, response) => {
    hook.asked += 1
    const status = hook.statuses.shift() ?? 204
    if (status !== 'hang') response.writeHead(status).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  t.teardown(() => server.closeAllConnections())
  const address = server.address()
  hook.port = typeof address === 'object' ? (address?.port ?? 0) : 0
  return hook
}

/** A pod: its volumes outlive the sidecars that `run` starts. */
async function pod(t: Test, { hooked = true, dir = memoryVolume(t) } = {}) {
  const stateDir = scratchDirectory(t)
  const hook = await application(t)
  const events: CertFilesEvent[] = []
  const run = async (clock: Clock = steppingClock()) => {
    const credential = live<Credential | undefined>(undefined)
    const bundle = live<TrustBundle | undefined>(undefined)
    const stopping = new AbortController()
    const files = await openCertFiles({
      dir,
      hook: hooked ? { port: hook.port, path: '/reload' } : undefined,
      credential,
      bundle,
      volume: openStateVolume(stateDir, ({ message }) => stopping.signal.aborted || t.fail(message)),
      clock,
      random: () => 0.5,
      observe: event => events.push(event),
    })
    const running = files.run(stopping.signal)
    const stop = () => {
      stopping.abort()
      return running
    }
    t.teardown(stop)
    return { credential, bundle, files, stop }
  }
  const read = (name: string) => readFileSync(join(dir, name), 'utf8')
  const kinds = () => events.map(({ kind }) => kind)
  const count = (kind: CertFilesEvent['kind']) => kinds().filter(each => each === kind).length
  return { dir, hook, events, run, read, kinds, count }
}

async function eventually(test: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 5_000; !test(); await delay(2))
    if (performance.now() > deadline) throw new Error('not within 5 s')
}

/** Long enough for what must not happen to have happened. */
const aWhile = () => delay(50)

t.test('the first files are written once certificate and bundle are there, and nobody is asked', async t => {
  const { run, read, count, hook, events } = await pod(t)
  const { credential, bundle, files } = await run()
  t.equal(files.inForce.get(), undefined)
  credential.set(first)
  await aWhile()
  t.equal(files.inForce.get(), undefined, 'a certificate that nobody could verify is none')
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  t.equal(read('tls.crt'), first.chain)
  t.equal(read('ca.crt'), authority.root)
  t.match(events, [{ kind: 'written', leaf: { serial: first.serial, notAfter: first.notAfter }, roots: 1 }])
  await aWhile()
  t.equal(hook.asked, 0)
})

t.test('each change after that is written whole, and the application is told', async t => {
  const { run, read, count, hook } = await pod(t)
  const { credential, bundle } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  bundle.set(BOTH)
  await eventually(() => count('hook-answered') === 1)
  t.equal(read('ca.crt'), authority.root + next.root)
  t.equal(read('tls.key'), first.key)
  credential.set(second)
  await eventually(() => count('hook-answered') === 2)
  t.equal(read('tls-combined.pem'), second.key + second.chain)
  t.equal(read('ca.crt'), authority.root + next.root)
  t.equal(hook.asked, 2)
})

t.test('what says the same again changes nothing', async t => {
  const { run, count, dir } = await pod(t)
  const { credential, bundle } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  const directory = readlinkSync(join(dir, '..data'))
  credential.set({ ...first, generation: 2 })
  bundle.set({ ...authority.bundle })
  await aWhile()
  t.equal(readlinkSync(join(dir, '..data')), directory)
})

t.test('changes that come together are one, and one comes no sooner than a second after another', async t => {
  const { run, count } = await pod(t)
  const real = steppingClock()
  const { promise: pausing, resolve: paused } = Promise.withResolvers<number>()
  const { promise: over, resolve: goOn } = Promise.withResolvers<void>()
  const clock: Clock = {
    ...real,
    sleep: async (ms, signal) => {
      paused(ms)
      await over
      await real.sleep(ms, signal)
    },
  }
  const { credential, bundle } = await run(clock)
  credential.set(first)
  bundle.set(authority.bundle)
  t.equal(await pausing, 1_000)
  bundle.set(BOTH)
  credential.set(second)
  await aWhile()
  t.equal(count('written'), 1)
  goOn()
  await eventually(() => count('hook-answered') === 1)
  await aWhile()
  t.equal(count('written'), 2)
})

t.test('a volume that cannot be written is tried again until it can', async t => {
  const dir = join(scratchDirectory(t), 'volume')
  const { run, count, events, read } = await pod(t, { dir })
  const { credential, bundle, files } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('unwritten') > 3)
  t.match(events[0], {
    kind: 'unwritten',
    error: { code: 'PSTN_CERT_FILES_UNWRITTEN' },
    failures: 1,
    retryMs: 375,
  })
  t.equal(files.inForce.get(), undefined)
  credential.set(second)
  mkdirSync(dir)
  await eventually(() => count('written') > 0 && read('tls.crt') === second.chain)
})

t.test('a sidecar that starts again finds its files and asks nobody', async t => {
  const { run, kinds, count, hook, dir } = await pod(t)
  const before = await run()
  before.credential.set(first)
  before.bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  before.bundle.set(BOTH)
  await eventually(() => count('hook-answered') === 1)
  await aWhile()
  await before.stop()

  const again = await run()
  t.not(again.files.inForce.get(), undefined, 'ready at once')
  again.credential.set(first)
  again.bundle.set(BOTH)
  await aWhile()
  t.same(kinds(), ['written', 'written', 'hook-due', 'hook-answered', 'found'])
  t.equal(hook.asked, 1)
  t.equal(readdirSync(dir).filter(name => name.startsWith('..2')).length, 1)
})

t.test('one that ended between a change and its answer asks as it starts again', async t => {
  const { run, count, hook } = await pod(t)
  const before = await run()
  before.credential.set(first)
  before.bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  hook.statuses = ['hang']
  before.bundle.set(BOTH)
  await eventually(() => hook.asked === 1)
  await before.stop()
  t.equal(count('hook-answered'), 0)
  await run()
  await eventually(() => count('hook-answered') === 1)
})

t.test(
  'files outlive a sidecar that has no certificate any more, and the bundle in them is kept new',
  async t => {
    const { run, read, count } = await pod(t)
    const before = await run()
    before.credential.set(first)
    before.bundle.set(authority.bundle)
    await eventually(() => count('written') === 1)
    await before.stop()
    const again = await run()
    again.bundle.set(BOTH)
    await eventually(() => count('hook-answered') === 1)
    t.equal(read('tls.crt'), first.chain)
    t.equal(read('tls.key'), first.key)
    t.equal(read('ca.crt'), authority.root + next.root)
  },
)

t.test('an identity that is taken back takes key and certificate away, and may come again', async t => {
  const { run, read, count, dir, events } = await pod(t)
  const { credential, bundle } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  credential.set(undefined)
  await eventually(() => count('hook-answered') === 1)
  t.same(
    readdirSync(dir).filter(name => !name.startsWith('..')),
    ['ca.crt'],
  )
  t.equal(readdirSync(dir).filter(name => name.startsWith('..2')).length, 1, 'the former key is gone')
  t.notHas(events.at(1), { leaf: {} })
  credential.set(second)
  await eventually(() => count('hook-answered') === 2)
  t.equal(read('tls.crt'), second.chain)
})

t.test('without a hook nobody is told, and nothing is pending', async t => {
  const { run, kinds, count } = await pod(t, { hooked: false })
  const { credential, bundle } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  bundle.set(BOTH)
  await eventually(() => count('written') === 2)
  await aWhile()
  t.same(kinds(), ['written', 'written'])
})

t.test('a hook that fails is asked again, later and later, and not for ever', async t => {
  const { run, count, hook, events } = await pod(t)
  hook.statuses = Array.from({ length: 20 }, () => 500)
  const clock = steppingClock()
  const { credential, bundle } = await run(clock)
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  bundle.set(BOTH)
  await eventually(() => count('hook-failed') === 8)
  await aWhile()
  t.equal(hook.asked, 8)
  const failures = events.filter(event => event.kind === 'hook-failed')
  t.same(
    failures.map(({ retryMs }) => retryMs),
    [750, 1500, 3000, 6000, 12_000, 24_000, 45_000, undefined],
  )
  t.match(failures[0], { error: { code: 'PSTN_CERT_HOOK_FAILED', message: 'it answered with 500' } })
  hook.statuses = []
  credential.set(second)
  await eventually(() => count('hook-answered') === 1)
})

t.test('a hook that comes back is told once', async t => {
  const { run, count, hook } = await pod(t)
  hook.statuses = [503, 500]
  const { credential, bundle } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  bundle.set(BOTH)
  await eventually(() => count('hook-answered') === 1)
  await aWhile()
  t.equal(hook.asked, 3)
})

t.test('a change drops what was still to be told of the one before', async t => {
  const { run, count, hook } = await pod(t)
  hook.statuses = ['hang']
  const { credential, bundle } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  bundle.set(BOTH)
  await eventually(() => hook.asked === 1)
  credential.set(second)
  await eventually(() => count('hook-answered') === 1)
  await aWhile()
  t.equal(hook.asked, 2)
  t.equal(count('hook-failed'), 0)
})

t.test('the application trusts a root once it was told of it, also if that was long ago', async t => {
  const { run, count, hook } = await pod(t)
  hook.statuses = Array.from({ length: 8 }, () => 500)
  const { credential, bundle, files, stop } = await run()
  t.same(files.trusted(), [])
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => count('written') === 1)
  t.same(files.trusted(), [authority.root], 'it starts with these')
  bundle.set(BOTH)
  await eventually(() => count('hook-failed') === 8)
  t.same(files.trusted(), [authority.root], 'it may have the former ones')
  await stop()

  const again = await run()
  await eventually(() => count('hook-answered') === 1)
  await eventually(() => again.files.trusted().length === 2)
  await again.stop()
  const later = await run()
  await eventually(() => later.files.trusted().length === 2)
  t.equal(hook.asked, 9)
})

t.test('without a hook an application trusts what stands in its files', async t => {
  const { run } = await pod(t, { hooked: false })
  const { credential, bundle, files, stop } = await run()
  credential.set(first)
  bundle.set(authority.bundle)
  await eventually(() => files.trusted().length === 1)
  bundle.set(BOTH)
  await eventually(() => files.trusted().length === 2)
  await stop()
  const again = await run()
  await eventually(() => again.files.trusted().length === 2)
})
