import { execFileSync } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fileSupplier, offerIn } from '../../../../proxy/credentials/file-source.ts'
import { writeAtomically } from '../../../support/atomic-writer.ts'
import { ExtendedKeyUsage, type Issued, testAuthority } from '../../../support/certificates.ts'
import { IDENTITY, offeredPod, type Script } from '../../../support/offered-pod.ts'

const HOUR_MS = 3_600_000
const ours = await testAuthority('cluster.local')
const issuer = await ours.intermediate()
const foreign = await testAuthority('cluster.local')

const issue = (seconds = 3_600, from = issuer): Promise<Issued> =>
  from.issue({ identity: IDENTITY, notAfter: new Date(Date.now() + seconds * 1_000) })
const [first, second, third] = await Promise.all([issue(), issue(), issue()])

const filesOf = ({ key, chain }: Pick<Issued, 'key' | 'chain'>) => ({ 'tls.key': key, 'tls.crt': chain })

async function pod(t: Test) {
  const made = await offeredPod(t, ours)
  const { volume } = made
  mkdirSync(volume)
  const [key, chain] = [join(volume, 'tls.key'), join(volume, 'tls.crt')]
  const write = (issued: Pick<Issued, 'key' | 'chain'>) => writeAtomically(volume, filesOf(issued))
  const looks = async (count: number, script: Script = {}) =>
    (await made.run(fileSupplier({ key, chain }), count, script)).map(credential => credential?.serial)
  return { ...made, key, chain, write, looks }
}

t.test('what is there at the start is taken, once, however often it is looked at', async t => {
  const { write, looks, events } = await pod(t)
  write(first)
  t.strictSame(await looks(20), [first.serial])
  t.match(events, [{ kind: 'taken', credential: { identity: IDENTITY, generation: 1 }, from: /tls.key/ }])
  t.equal(events.length, 1)
})

t.test('a directory that is swapped at once, as the kubelet does, is taken with the next look', async t => {
  const { write, looks, told } = await pod(t)
  write(first)
  t.strictSame(await looks(5, { 2: () => write(second), 4: () => write(third) }), [
    first.serial,
    second.serial,
    third.serial,
  ])
  t.strictSame(told(), ['taken', 'taken', 'taken'])
})

t.test('the same files written again are no news', async t => {
  const { write, looks } = await pod(t)
  write(first)
  t.strictSame(await looks(4, { 2: () => write(first), 3: () => write(first) }), [first.serial])
})

t.test('the same certificate with other text around it is no news', async t => {
  const { write, looks } = await pod(t)
  write(first)
  const commented = { ...first, chain: `subject=CN = cart\n${first.chain}\n# end\n` }
  t.strictSame(await looks(4, { 2: () => write(commented) }), [first.serial])
})

t.test('one file with the key and then the chain, as PodCertificate volumes have it', async t => {
  const { volume, run } = await pod(t)
  const path = join(volume, 'bundle.pem')
  const bundle = ({ key, chain }: Issued) => ({ 'bundle.pem': key + chain })
  writeAtomically(volume, bundle(first))
  const taken = await run(fileSupplier({ key: path, chain: path }), 3, {
    2: () => writeAtomically(volume, bundle(second)),
  })
  t.strictSame(
    taken.map(credential => credential?.serial),
    [first.serial, second.serial],
  )
})

t.test('files that are renamed one after the other: the pair that does not fit is waited out', async t => {
  const { key, chain, looks, told } = await pod(t)
  const replace = (path: string, text: string) => {
    writeFileSync(`${path}.new`, text)
    renameSync(`${path}.new`, path)
  }
  replace(key, first.key)
  replace(chain, first.chain)
  const serials = await looks(8, {
    2: () => replace(key, second.key),
    4: () => replace(chain, second.chain),
  })
  t.strictSame(serials, [first.serial, second.serial])
  t.strictSame(told(), ['taken', 'taken'], 'nobody is told of two seconds')
})

t.test('files that are written in place, and halves of them seen, cost nothing', async t => {
  const { key, chain, looks, told } = await pod(t)
  writeFileSync(key, first.key)
  writeFileSync(chain, first.chain)
  const half = (text: string, share: number) => text.slice(0, Math.floor(text.length * share))
  const serials = await looks(10, {
    2: () => writeFileSync(key, ''),
    3: () => writeFileSync(key, half(second.key, 0.6)),
    4: () => writeFileSync(key, second.key),
    5: () => writeFileSync(chain, half(second.chain, 0.7)),
    6: () => writeFileSync(chain, second.chain),
  })
  t.strictSame(serials, [first.serial, second.serial])
  t.strictSame(told(), ['taken', 'taken'])
})

t.test('a chain that is cut behind a whole certificate is not taken for a shorter one', async t => {
  const { chain } = first
  const cut = chain.lastIndexOf('-----BEGIN CERTIFICATE-----')
  t.throws(() => offerIn({ key: first.key, chain: chain.slice(0, cut + 60) }), {
    code: 'PSTN_SOURCE_INVALID',
    message: /the chain is not whole: 2 PEM blocks begin, 1 end/,
  })
  const { write, looks, told } = await pod(t)
  write(first)
  const leafAlone = { key: second.key, chain: second.leaf }
  t.strictSame(await looks(4, { 2: () => write(leafAlone), 3: () => write(second) }), [
    first.serial,
    second.serial,
  ])
  t.strictSame(told(), ['taken', 'taken'], 'an intermediate that is missing is waited for')
})

t.test('files that are gone are told once, and what is held stays', async t => {
  const { volume, write, looks, events, told } = await pod(t)
  write(first)
  const serials = await looks(60, {
    2: () => rmSync(volume, { recursive: true }),
    50: () => {
      mkdirSync(volume)
      write(first)
    },
  })
  t.strictSame(serials, [first.serial])
  const failures = events.filter(({ kind }) => kind === 'failed')
  t.ok(failures.length >= 2 && failures.length <= 6, `${failures.length} of 48 looks were told`)
  t.match(failures[0], {
    error: { code: 'PSTN_SOURCE_UNAVAILABLE', message: /tls.key.*ENOENT/ },
    failures: 1,
  })
  t.match(failures[1], { failures: 2 })
  t.equal(told().at(-1), 'recovered')
})

t.test('without a certificate a failure is told at once', async t => {
  const { looks, events } = await pod(t)
  t.strictSame(await looks(1), [])
  t.match(events, [{ kind: 'failed', lifeLeftMs: 0, error: { code: 'PSTN_SOURCE_UNAVAILABLE' } }])
})

for (const [what, why, make] of [
  ['another identity', /is for spiffe:..cluster.local.ns.shop.sa.other/, () => other('other')],
  ['another trust domain', /trust domain/, () => other('cart', 'elsewhere')],
  ['another root', /does not lead to a root/, () => issue(3_600, foreign)],
  ['a key of another certificate', /another key/, async () => ({ ...second, key: third.key })],
  ['a certificate that has expired', /expired/, () => issue(-60)],
  ['a certificate for servers alone', /clientAuth/, () => usage()],
  ['no private key', /no private key/, async () => ({ ...second, key: second.chain })],
  ['two private keys', /2 private keys/, async () => ({ ...second, key: second.key + third.key })],
  ['an encrypted key', /no private key/, async () => ({ ...second, key: encrypted(second.key) })],
  ['no certificate', /no certificate/, async () => ({ ...second, chain: second.key })],
] as const) {
  t.test(`${what} is refused, says so, and what is held stays`, async t => {
    const { write, looks, events } = await pod(t)
    write(first)
    const wrong = await make()
    t.strictSame(await looks(12, { 2: () => write(wrong) }), [first.serial])
    const [told] = events.filter(event => event.kind === 'failed')
    t.match(told, { error: { code: 'PSTN_SOURCE_INVALID', message: why } })
    const secrets = wrong.key.split('\n').filter(line => line.length > 32 && !line.startsWith('---'))
    for (const line of secrets) t.notOk(JSON.stringify(events.slice(1)).includes(line), 'no key is told')
  })
}

t.test(
  'a certificate of tomorrow is refused with how far our clock is off, and taken when its time comes',
  async t => {
    const { clock, write, looks, failures } = await pod(t)
    write(first)
    const early = await issuer.issue({
      identity: IDENTITY,
      notBefore: new Date(clock.now() + 180_000),
      notAfter: new Date(clock.now() + HOUR_MS),
    })
    t.strictSame(await looks(200, { 2: () => write(early) }), [first.serial, early.serial])
    t.strictSame([...new Set(failures())], ['PSTN_CLOCK_SKEW'])
  },
)

t.test('a root that this sidecar has not heard of is read before its certificate is refused', async t => {
  const { api, write, looks, told } = await pod(t)
  write(first)
  const later = await issue(3_600, foreign)
  const serials = await looks(4, {
    2: () => {
      api.trust = { ...api.trust, 'roots.pem': ours.root + foreign.root }
      write(later)
    },
  })
  t.strictSame(serials, [first.serial, later.serial])
  t.strictSame(told(), ['taken', 'taken'])
})

t.test(
  'what nobody rotates is told when a fifth of its time is left, and again once it has expired',
  async t => {
    const { write, looks, events } = await pod(t)
    write(await issue(100))
    t.equal((await looks(140)).length, 1)
    const failures = events.filter(event => event.kind === 'failed')
    t.match(failures[0], { error: { code: 'PSTN_SOURCE_OVERDUE', message: /nothing follows certificate/ } })
    t.ok(failures[0]?.kind === 'failed' && failures[0].lifeLeftMs > 10_000)
    t.ok(failures.some(event => event.kind === 'failed' && event.lifeLeftMs === 0))
    t.ok(failures.length < 40, `${failures.length} of 60 looks were told`)
  },
)

t.test('a root that was removed is told though the files are what they were', async t => {
  const { api, write, looks, failures } = await pod(t)
  write(first)
  const supplied = looks(400, {
    2: () => {
      api.trust = { ...api.trust, 'roots.pem': foreign.root }
      // Another file, so that trust is read again.
      write({ ...first, key: third.key })
    },
    4: () => write(first),
  })
  t.strictSame(await supplied, [first.serial])
  t.ok(failures().includes('PSTN_SOURCE_INVALID'))
})

t.test('a restart finds what was held, though the files are broken meanwhile', async t => {
  const { volume, write, looks, told } = await pod(t)
  write(first)
  await looks(2)
  rmSync(volume, { recursive: true })
  t.strictSame(await looks(2), [first.serial])
  t.strictSame(told(), ['taken', 'restored'])
})

t.test('a restart does not announce the same certificate twice', async t => {
  const { write, looks, told } = await pod(t)
  write(first)
  await looks(2)
  t.strictSame(await looks(3), [first.serial])
  t.strictSame(told(), ['taken', 'restored'])
})

t.test('what is no file is not waited for', async t => {
  const { key, chain, looks, events } = await pod(t)
  execFileSync('mkfifo', [key])
  writeFileSync(chain, first.chain)
  t.strictSame(await looks(2), [])
  t.match(events, [{ error: { message: /is no file/ } }])
})

t.test('a key in the older forms of PEM is as good', async t => {
  const sec1 = createPrivateKey(first.key).export({ format: 'pem', type: 'sec1' }).toString()
  const { write, looks, events } = await pod(t)
  write({ ...first, key: sec1 })
  t.strictSame(await looks(1), [first.serial])
  t.match(events, [{ credential: { key: first.key } }])
})

t.test('what is kept for a restart is readable by the sidecar alone', async t => {
  const { directory, write, looks } = await pod(t)
  write(first)
  await looks(1)
  t.match(JSON.parse(readFileSync(join(directory, 'credential.json'), 'utf8')), { key: first.key })
})

const other = (name: string, trustDomain = 'cluster.local') =>
  issuer.issue({ identity: `spiffe://${trustDomain}/ns/shop/sa/${name}` })

const usage = () => issuer.issue({ identity: IDENTITY, extKeyUsage: [ExtendedKeyUsage.serverAuth] })

const encrypted = (key: string): string =>
  createPrivateKey(key)
    .export({ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'secret' })
    .toString()
