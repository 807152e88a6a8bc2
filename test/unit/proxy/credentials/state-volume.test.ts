import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'

const failing = (error: Error) => t.fail(error.message)

t.test('what was written is read back, and only its owner may read it', async t => {
  const dir = t.testdir()
  const volume = openStateVolume(dir, failing)
  await volume.write('trust.json', { a: 1 })
  t.same(await volume.read('trust.json'), { a: 1 })
  t.equal(statSync(join(dir, 'trust.json')).mode & 0o777, 0o600)
  await volume.remove('trust.json')
  t.equal(await volume.read('trust.json'), undefined)
})

t.test('of many writes at once the last one stays, whole, and nothing else is left', async t => {
  const dir = t.testdir()
  const volume = openStateVolume(dir, failing)
  await Promise.all(Array.from({ length: 50 }, (_, n) => volume.write('state.json', { n })))
  t.same(await volume.read('state.json'), { n: 49 })
  t.same(readdirSync(dir), ['state.json'])
})

t.test('a file that was left half-written is neither read nor in the way', async t => {
  const dir = t.testdir({ '.state.json': '{"n":', 'trust.json': '{"trustDomain":' })
  const volume = openStateVolume(dir, failing)
  t.equal(await volume.read('state.json'), undefined)
  t.equal(await volume.read('trust.json'), undefined)
  await volume.write('state.json', { n: 1 })
  t.same(await volume.read('state.json'), { n: 1 })
})

t.test('a volume that cannot be written is reported, and does not fail the writer', async t => {
  const dir = t.testdir()
  writeFileSync(join(dir, 'file'), '')
  const codes: string[] = []
  const volume = openStateVolume(join(dir, 'file'), ({ code }) => codes.push(code))
  await volume.write('pending.json', {})
  t.same(codes, ['PSTN_STATE_UNSAVED'])
})
