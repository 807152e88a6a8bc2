// What docs/operations.md names must exist, and no code may be without a place there: nobody has time at night for a page
// that has drifted from the code.
import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { STREAM_LIMITS } from '../../../injector/control/stream.ts'
import { WEBHOOK_LIMITS } from '../../../injector/webhook/server.ts'
import { RATES, SERVER_LIMITS } from '../../../proxy/tunnel/settings.ts'
import { CODES } from '../../../shared/errors.ts'
import { projectRoot, sourceFiles } from '../../support/source-files.ts'

const read = (path: string): string => readFileSync(`${projectRoot}/${path}`, 'utf8')
const page = read('docs/operations.md')
const all = (pattern: RegExp): string[] => [
  ...new Set([...page.matchAll(pattern)].map(([, found = '']) => found)),
]

t.test('every code has its place, and only codes that exist', async t => {
  t.same(all(/(PSTN_[A-Z_]*[A-Z])(?!_?…)/g).sort(), Object.keys(CODES).sort())
})

t.test('every metric is one of docs/metrics.md', async t => {
  const metrics = read('docs/metrics.md')
  const named = all(/(postern_[a-z_]+)/g)
  t.ok(named.length > 5)
  for (const metric of named) t.match(metrics, `\`${metric}\``, metric)
})

t.test('every file and page exists', async t => {
  const named = [
    ...all(/`([a-z-]+\/[a-z/-]+\.(?:ts|yaml))`/g),
    ...all(/\]\(([a-z]+\.md)\)/g).map(name => `docs/${name}`),
  ]
  t.ok(named.length > 5)
  for (const path of named) t.ok(existsSync(`${projectRoot}/${path}`), path)
})

t.test('every test that is named as a proof exists', async t => {
  const named = all(/`((?:kube|long|netns|unit)\/[a-z/-]+)`/g)
  t.ok(named.length > 5)
  for (const name of named) t.ok(existsSync(`${projectRoot}/test/${name}.test.ts`), name)
})

t.test('every log message is written somewhere', async t => {
  const sources = sourceFiles('proxy', 'injector', 'shared')
    .map(({ text }) => text)
    .join('\n')
  for (const message of MESSAGES) {
    t.match(page, `\`${message}\``)
    t.match(sources, `'${message}'`, message)
  }
})

const MESSAGES = [
  'certificate failed',
  'certificate request denied',
  'the injector cannot run',
  'no CA yet',
  'leading',
  'lease not renewed',
  'no answer about the lease',
  'watch failed: listing anew',
  'webhook caBundle not updated',
  'CA Secret restored: it was gone',
  'control lost',
  'trust bundle not published',
  'ClusterTrustBundle not published',
  'trust bundle passed over',
  'lines suppressed',
]

t.test('the limits are those of the code', async t => {
  const row = (what: string) => page.split('\n').find(line => line.includes(what)) ?? ''
  const shown = (value: number) => value.toLocaleString('en')
  const both = (all: number, one: number) => `${shown(all)}; ${shown(one)} |`
  t.match(
    row('| tunnel connections'),
    both(SERVER_LIMITS.maxConnections, SERVER_LIMITS.maxConnectionsPerAddress),
  )
  t.match(
    row('| of them, handshakes'),
    both(SERVER_LIMITS.maxHandshakes, SERVER_LIMITS.maxHandshakesPerAddress),
  )
  t.match(row('| addresses that one'), shown(STREAM_LIMITS.addresses))
  t.match(row('| bytes that wait'), `${STREAM_LIMITS.unreadBytes / 2 ** 20} MiB`)
  t.match(row('| admission reviews'), both(WEBHOOK_LIMITS.concurrent, WEBHOOK_LIMITS.concurrentPerAddress))
  t.match(
    row('| webhook connections'),
    both(WEBHOOK_LIMITS.connections, WEBHOOK_LIMITS.connectionsPerAddress),
  )
  t.match(page, `${shown(SERVER_LIMITS.maxConcurrentStreams)} streams of one tunnel`)
  t.match(page, `${shown(RATES.tunnel_resets.burst)} resets at once`)
  const [, captured] = /MAX_CONNECTIONS = ([\d_]+)/.exec(read('proxy/accept/pod-listeners.ts')) ?? []
  t.match(row('| connections captured'), shown(Number(captured?.replaceAll('_', ''))))
})
