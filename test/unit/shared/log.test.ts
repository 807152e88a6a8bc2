import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { createLineWriter, createLogger, flushed } from '../../../shared/log.ts'
import { LogOutput } from '../../../shared/log-output.ts'

const LOG = fileURLToPath(new URL('../../../shared/log.ts', import.meta.url))

function toFile(t: Test, options: { intervalMs?: number; capacity?: number } = {}) {
  const path = join(mkdtempSync(join(tmpdir(), 'postern-log-')), 'log')
  const fd = openSync(path, 'a')
  t.teardown(() => closeSync(fd))
  const output = new LogOutput({ fd, ...options })
  const raw = () => readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return { output, raw, lines: () => raw().map(line => JSON.parse(line)) }
}

t.test('a line writer writes what the logger writes, byte for byte, at the level that is set', async t => {
  const { output, raw } = toFile(t)
  const log = createLogger('proxy', 'info', { pod: 'cart-0', namespace: 'shop' }, output)
  const write = createLineWriter(log, 'info', 'connection')
  const source = { address: 'fd77::1', identity: 'spiffe://a/ns/b/sa/c' }
  for (const fields of [
    { direction: 'inbound', source, bytesIn: 0, durationMs: 1.5, code: undefined },
    { reason: 'a "quoted" \\ line\nof ünïcode \u0007', nested: { list: [1, null, true] } },
  ]) {
    write(fields)
    log.info(fields, 'connection')
  }
  log.level = 'warn'
  write({ not: 'shown' })
  log.level = 'info'
  await flushed(log)
  const withoutTime = raw().map(line => line.replace(/"time":"[^"]*"/, '"time"'))
  t.equal(withoutTime.length, 4)
  t.equal(withoutTime[0], withoutTime[1])
  t.equal(withoutTime[2], withoutTime[3])
  t.match(JSON.parse(raw()[0] ?? ''), { level: 'info', component: 'proxy', pod: 'cart-0', msg: 'connection' })
})

t.test(
  'after a quiet time a line is written at once, and those that follow together, all in order',
  async t => {
    const { output, lines } = toFile(t, { intervalMs: 200 })
    const log = createLogger('proxy', 'info', {}, output)
    const write = createLineWriter(log, 'info', 'connection')
    write({ count: 0 })
    await delay(100)
    t.equal(lines().length, 1)
    for (let count = 1; count < 300; count += 1) count % 2 ? write({ count }) : log.warn({ count }, 'other')
    await delay(20)
    t.equal(lines().length, 1)
    await delay(400)
    t.same(
      lines().map(({ count }) => count),
      Array.from({ length: 300 }, (_, count) => count),
    )
  },
)

t.test('what is more than a write is written before the interval is over', async t => {
  const { output, lines } = toFile(t, { intervalMs: 60_000 })
  const line = `${JSON.stringify({ filling: 'x'.repeat(1_000) })}\n`
  output.write(line)
  await delay(20)
  for (let count = 0; count < 200; count += 1) output.write(line)
  await delay(100)
  t.ok(lines().length > 64, `${lines().length} lines`)
  await new Promise<void>(resolve => output.flush(resolve))
  t.equal(lines().length, 201)
})

t.test('a reader that stalls costs lines, which are counted, and nothing else', async t => {
  const script = `
    const { createLogger, onLinesLost } = await import(${JSON.stringify(LOG)})
    const log = createLogger('proxy', 'info')
    onLinesLost(log, lines => console.error('told', lines))
    const before = performance.now()
    for (let turn = 0; turn < 100; turn += 1) {
      for (let count = 0; count < 100; count += 1) log.info({ turn, filling: 'x'.repeat(300) }, 'line')
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    const took = performance.now() - before
    process.once('SIGUSR2', () => {
      const again = setInterval(() => {
        log.info('again')
        log.flush(() => { clearInterval(again); process.exit() })
      }, 100)
    })
    console.error(took < 5_000 ? 'went on' : 'stalled')
  `
  const stalled = spawn(process.execPath, ['--input-type=module', '-e', script])
  t.teardown(() => stalled.kill())
  const [said] = await once(stalled.stderr, 'data')
  t.equal(String(said).trim(), 'went on')
  stalled.kill('SIGUSR2')
  const [written, told] = await Promise.all([text(stalled.stdout), text(stalled.stderr)])
  const lines = written.trim().split('\n')
  const parsed = lines.map(line => JSON.parse(line))
  const { lost } = parsed.find(({ msg }) => msg === 'lines lost')
  t.equal(parsed.filter(({ msg }) => msg === 'line').length + lost, 10_000)
  t.equal(told.trim(), `told ${lost}`, 'and told to who counts them')
  t.equal(parsed.at(-1).msg, 'again')
})

const ENDS = {
  'an orderly end': "log.info('last')",
  'process.exit': "log.info('last'); process.exit(0)",
  'a fatal error':
    "process.on('uncaughtException', () => { log.fatal('last'); process.exit(1) }); setTimeout(() => { throw new Error() })",
}
for (const [how, ending] of Object.entries(ENDS))
  t.test(`nothing is lost at ${how}, and the order holds`, async t => {
    const script = `
      const { createLogger } = await import(${JSON.stringify(LOG)})
      const log = createLogger('proxy', 'info')
      for (let count = 0; count < 500; count += 1) log.info({ count }, 'line')
      await new Promise(resolve => setTimeout(resolve, 20))
      for (let count = 500; count < 1_000; count += 1) log.info({ count }, 'line')
      ${ending}
    `
    const child = spawn(process.execPath, ['--input-type=module', '-e', script])
    const lines = (await text(child.stdout)).trim().split('\n')
    const parsed = lines.map(line => JSON.parse(line))
    t.same(
      parsed.slice(0, -1).map(({ count }) => count),
      Array.from({ length: 1_000 }, (_, count) => count),
    )
    t.equal(parsed.at(-1).msg, 'last')
  })
