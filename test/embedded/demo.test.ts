// The demo as its reader runs it, and as it is when what it shows is taken away: a scene that cannot fail shows nothing.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { SCENES } from '../../embedded/scenes.ts'

t.setTimeout(240_000)

async function demo(...args: string[]): Promise<{ code: number; lines: string[]; errors: string }> {
  const command = ['--disable-warning=ExperimentalWarning', 'embedded/demo.ts', '--once', ...args]
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = once(child, 'exit')
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), exited])
  return { code: Number(code), lines: output.trim().split('\n'), errors }
}

const scene = (lines: readonly string[], title: string) =>
  lines.find(line => /^scene \d+ /.test(line) && line.includes(`${title}:`)) ?? 'no such scene'

t.test('each scene shows its evidence and the demo ends with 0', async t => {
  const { code, lines } = await demo()
  t.equal(code, 0, lines.join('\n'))
  t.equal(lines.at(-1), `demo: ${SCENES.length} scenes ok`)
  t.match(scene(lines, 'issued'), /3 certificates for web, orders, stranger/)
  t.match(scene(lines, 'allowed'), /200 to spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web, serial [0-9a-f]{16}/)
  t.match(scene(lines, 'denied'), /PSTN_POLICY_DENIED for spiffe:\S+\/sa\/stranger by shop\/orders-callers/)
  t.match(scene(lines, 'plaintext refused'), /200 while permissive, then PSTN_PLAINTEXT_REFUSED/)
  t.match(scene(lines, 'rotated'), /3 rotations under \d+ requests, 0 failed/)
  t.match(scene(lines, 'policy changed live'), /closed \d+ ms after the edit \(PSTN_POLICY_DENIED\)/)
})

t.test('without the policy the denied scene fails and the demo ends with 1', async t => {
  const { code, lines } = await demo('--without', 'policy')
  t.equal(code, 1)
  t.match(scene(lines, 'denied'), /FAILED: a caller that no policy allows got 200/)
  t.notMatch(scene(lines, 'allowed'), /FAILED/)
})

t.test('without an approver no sidecar becomes ready and the demo ends with 1', async t => {
  const { code, lines } = await demo('--without', 'approver')
  t.equal(code, 1)
  t.match(scene(lines, 'issued'), /FAILED: the sidecar of \w+ is not ready/)
})

t.test('a second demo says why it cannot start', async t => {
  const taken = createServer().listen(15_012, '127.1.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const { code, errors } = await demo()
  t.equal(code, 1)
  t.match(errors, /EADDRINUSE.*is another demo still running/)
})

t.test('an unknown option is refused with the usage', async t => {
  const { code, errors } = await demo('--without', 'luck')
  t.equal(code, 1)
  t.match(errors, /--without luck is unknown\nusage: /)
})
