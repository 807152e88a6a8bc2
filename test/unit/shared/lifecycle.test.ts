import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { endsWithin } from '../../../shared/lifecycle.ts'
import { steppingClock } from '../../support/stepping-clock.ts'

t.test('what ends in time did, and what does not did not', async t => {
  const clock = steppingClock()
  t.equal(await endsWithin(Promise.resolve(), 1_000, clock), true)
  t.equal(await endsWithin(new Promise(() => {}), 1_000, clock), false)
  await t.rejects(endsWithin(Promise.reject(new Error('broken')), 1_000, clock), { message: 'broken' })
})

for (const name of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`the first ${name} aborts, the second ends the process`, async t => {
    const lifecycle = new URL('../../../shared/lifecycle.ts', import.meta.url)
    const program = `import { shutdownSignal } from '${lifecycle}'
      shutdownSignal().addEventListener('abort', event => console.log(event.target.reason.message))
      setInterval(() => {}, 1000)
      console.log('started')`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program])
    const [started] = await once(child.stdout, 'data')
    t.equal(String(started).trim(), 'started')
    child.kill(name)
    const [aborted] = await once(child.stdout, 'data')
    t.equal(String(aborted).trim(), `received ${name}`)
    child.kill(name)
    t.strictSame(await once(child, 'exit'), [null, name])
  })
}
