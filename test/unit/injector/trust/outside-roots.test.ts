import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { outsideRoots } from '../../../../injector/trust/outside-roots.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { until } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { readRoots } from '../../../../shared/x509/root-certificates.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const [one, two] = [await testAuthority('one.example'), await testAuthority('two.example')]
const leaf = await one.issue({ identity: 'spiffe://one.example/x' })

t.test('roots are taken as they stand, each once, with text around them', async t => {
  t.same(readRoots(one.root), [one.root])
  t.same(readRoots(`# the old one\n${one.root}# and the new\n${two.root}${one.root}`), [one.root, two.root])
})

const wrong: Record<string, [text: string, reason: RegExp]> = {
  'an empty file': ['', /it holds no certificate/],
  'a text': ['to be filled in', /it holds no certificate/],
  'half a certificate': [one.root + two.root.slice(0, 200), /of 2 PEM blocks 1 are whole/],
  'a root with its key, which nobody should mount': [one.root + leaf.key, /of 2 PEM blocks 1 are whole/],
  'a certificate that is no CA’s': [one.root + leaf.leaf, /certificate 2 is no CA certificate/],
  'a certificate with another in its middle': [
    one.root.replace(/.{64}\n/, `${'A'.repeat(64)}\n`),
    /certificate 1 cannot be read/,
  ],
}
for (const [name, [text, reason]] of Object.entries(wrong)) {
  t.test(`${name} is refused`, async t => {
    t.throws(() => readRoots(text), { code: 'PSTN_TRUST_INVALID', message: reason })
  })
}

t.test('a change of the file is taken, and what cannot be used changes nothing', async t => {
  const directory = scratchDirectory(t)
  const file = join(directory, 'roots.pem')
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const registry = createRegistry()
  const clock = { ...systemClock, sleep: (_: number, signal: AbortSignal) => systemClock.sleep(5, signal) }
  const context = { clock, log: createLogger('test', 'error'), registry, signal: stop.signal }
  const refused = () => /^postern_trust_roots_refused (.)$/m.exec(registry.render())?.[1]
  const becomes = async (value: string) => {
    while (refused() !== value) await systemClock.sleep(5, stop.signal)
  }

  const elsewhere = { ...context, registry: createRegistry() }
  await t.rejects(outsideRoots(file, elsewhere), { code: 'PSTN_CONFIG_INVALID' }, 'not there at the start')
  writeFileSync(file, one.root)
  const followed = await outsideRoots(file, context)
  t.same(followed.get(), [one.root])
  await becomes('0')
  writeFileSync(file, 'half a roll-out')
  await becomes('1')
  t.same(followed.get(), [one.root])
  rmSync(file)
  writeFileSync(file, two.root)
  await until(followed, (now): now is string[] => now[0] === two.root, stop.signal)
  t.same(followed.get(), [two.root])
  t.equal(refused(), '0')
})
