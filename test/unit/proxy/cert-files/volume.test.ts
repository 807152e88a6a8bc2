import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Files } from '../../../../proxy/cert-files/layout.ts'
import { certVolume } from '../../../../proxy/cert-files/volume.ts'
import { generation, numberOf } from '../../../support/cert-files.ts'
import { memoryVolume } from '../../../support/memory-volume.ts'
import { requireLinux, requireRoot } from '../../../support/requirements.ts'

const NOW = new Date('2026-11-22T10:15:00Z')
const NAMES = ['ca.crt', 'tls-combined.pem', 'tls.crt', 'tls.key']

const visible = (root: string) => readdirSync(root).filter(name => !name.startsWith('..'))
const directories = (root: string) => readdirSync(root).filter(name => name.startsWith('..2'))
const asProgramsRead = (root: string): Files =>
  Object.fromEntries(visible(root).map(name => [name, readFileSync(join(root, name), 'utf8')]))

t.test('files are there under their names, through a directory that anybody may read', async t => {
  const root = memoryVolume(t)
  const former = process.umask(0o077)
  t.teardown(() => process.umask(former))
  const volume = certVolume(root)
  t.equal(await volume.current(), undefined)
  const { directory } = await volume.swap(generation(1), NOW)
  t.match(directory, /^\.\.2026_11_22_10_15_00\..{6}$/)
  t.equal(readlinkSync(join(root, '..data')), directory)
  t.same(visible(root), NAMES)
  t.equal(numberOf(asProgramsRead(root)), 1)
  t.equal(statSync(join(root, directory)).mode & 0o777, 0o755)
  for (const name of NAMES) {
    t.equal(readlinkSync(join(root, name)), `..data/${name}`)
    t.equal(statSync(join(root, name)).mode & 0o777, 0o444)
  }
  t.same(await volume.current(), { directory, files: generation(1) })
})

t.test('whoever resolves ..data once reads one generation; who does not may get a mixture', async t => {
  const root = memoryVolume(t)
  const volume = certVolume(root)
  await volume.swap(generation(0), NOW)
  let swapping = true
  const writing = (async () => {
    for (let number = 1; number <= 100; number++) {
      await volume.swap(generation(number), NOW)
      await delay(1)
    }
    swapping = false
  })()
  let [looks, mixtures] = [0, 0]
  const read = async (base: string) => {
    const texts: [string, string][] = []
    for (const name of NAMES) {
      texts.push([name, readFileSync(join(base, name), 'utf8')])
      await turn()
    }
    return numberOf(Object.fromEntries(texts))
  }
  while (swapping) {
    looks += 1
    const resolved = join(root, readlinkSync(join(root, '..data')))
    try {
      if ((await read(resolved)) === undefined) t.fail('a mixture')
    } catch (thrown) {
      // More than one change went by, which the keeper’s pause does not let happen.
      t.match(thrown, { code: 'ENOENT' })
    }
    if ((await read(root)) === undefined) mixtures += 1
  }
  await writing
  t.ok(mixtures > 0, `${mixtures} mixtures of ${looks} by name`)
})

t.test('the former generation stays until the next change, and no longer', async t => {
  const root = memoryVolume(t)
  const volume = certVolume(root)
  const [first, second] = [await volume.swap(generation(1), NOW), await volume.swap(generation(2), NOW)]
  t.same(directories(root).sort(), [first.directory, second.directory].sort())
  const third = await volume.swap(generation(3), NOW)
  t.same(directories(root).sort(), [second.directory, third.directory].sort())
  await volume.tidy()
  t.same(directories(root), [third.directory])
  t.equal(numberOf(asProgramsRead(root)), 3)
})

t.test('files that are gone from a generation are gone by name too', async t => {
  const root = memoryVolume(t)
  const volume = certVolume(root)
  await volume.swap(generation(1), NOW)
  await volume.swap({ 'ca.crt': 'roots' }, NOW)
  await volume.tidy()
  t.same(asProgramsRead(root), { 'ca.crt': 'roots' })
  await volume.swap(generation(2), NOW)
  t.equal(numberOf(asProgramsRead(root)), 2)
})

const LEFT: Record<string, (root: string) => void> = {
  'a directory that is half written': root => {
    mkdirSync(join(root, '..2026_11_22_10_14_59.abcdef'))
    writeFileSync(join(root, '..2026_11_22_10_14_59.abcdef', 'tls.key'), 'half')
  },
  'a symlink that was to become ..data': root => symlinkSync('..nowhere', join(root, '..data_tmp')),
  'a name that leads nowhere': root => symlinkSync('..data/tls.old', join(root, 'tls.old')),
}
for (const [name, leave] of Object.entries(LEFT))
  t.test(`left by a crash: ${name} is in nobody’s way, and goes`, async t => {
    for (const before of [0, 1]) {
      const root = memoryVolume(t)
      const volume = certVolume(root)
      if (before > 0) await volume.swap(generation(before), NOW)
      leave(root)
      t.equal(numberOf((await volume.current())?.files), before || undefined)
      await volume.swap(generation(2), NOW)
      await volume.tidy()
      t.equal(numberOf(asProgramsRead(root)), 2)
      t.same(visible(root), NAMES)
      t.equal(readdirSync(root).length, NAMES.length + 2)
    }
  })

t.test('links that a crash kept from being made, or that somebody bent, are made anew', async t => {
  const root = memoryVolume(t)
  const volume = certVolume(root)
  await volume.swap(generation(1), NOW)
  unlinkSync(join(root, 'tls.key'))
  renameSync(join(root, 'tls.crt'), join(root, 'ca.crt'))
  t.equal(await volume.current(), undefined)
  await volume.swap(generation(1), NOW)
  t.equal(numberOf(asProgramsRead(root)), 1)
})

t.test('a ..data that leads out of the volume is not followed', async t => {
  const root = memoryVolume(t)
  symlinkSync('../../etc', join(root, '..data'))
  t.equal(await certVolume(root).current(), undefined)
  await certVolume(root).swap(generation(1), NOW)
  t.equal(numberOf(asProgramsRead(root)), 1)
  t.ok(existsSync('/etc/passwd'))
})

t.test('killed at any moment, a writer leaves one whole generation', { skip: requireLinux() }, async t => {
  const root = memoryVolume(t)
  const module = fileURLToPath(new URL('../../../support/cert-files-writer.ts', import.meta.url))
  let last = 0
  for (let life = 1; life <= 8; life++) {
    const stdio: StdioOptions = ['ignore', 'pipe', 'inherit']
    const writer: ChildProcess = spawn(process.execPath, [module, root, String(life * 1_000_000)], { stdio })
    await once(writer.stdout ?? writer, 'data')
    await delay(Math.random() * 20)
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    const number = numberOf((await certVolume(root).current())?.files) ?? 0
    t.equal(numberOf(asProgramsRead(root)), number)
    t.ok(number > last, `${number}`)
    last = number
  }
  await certVolume(root).tidy()
  t.equal(directories(root).length, 1)
})

t.test(
  'a full volume keeps what it has, says so, and takes the next once there is room',
  { skip: requireLinux() || requireRoot() },
  async t => {
    const root = memoryVolume(t, '256k')
    const volume = certVolume(root)
    const first = await volume.swap(generation(1), NOW)
    const large = { ...generation(2), 'ca.crt': 'x'.repeat(300_000) }
    await t.rejects(volume.swap(large, NOW), { code: 'PSTN_CERT_FILES_UNWRITTEN', message: /ENOSPC/ })
    t.equal(numberOf(asProgramsRead(root)), 1)
    t.same(directories(root), [first.directory], 'nothing is left of the attempt')
    await volume.swap(generation(3), NOW)
    t.equal(numberOf(asProgramsRead(root)), 3)
  },
)

t.test('a volume that is not there is refused, with the path', async t => {
  const root = join(memoryVolume(t), 'gone')
  t.equal(await certVolume(root).current(), undefined)
  const refused = { code: 'PSTN_CERT_FILES_UNWRITTEN', message: /gone.*ENOENT/ }
  await t.rejects(certVolume(root).swap(generation(1), NOW), refused)
})
