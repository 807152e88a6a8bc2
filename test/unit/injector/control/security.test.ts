// A sidecar that floods its control stream.
import { once } from 'node:events'
import { connect, createServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createPace, PACE } from '../../../../injector/control/pace.ts'
import { serveStream } from '../../../../injector/control/stream.ts'
import { type Clock, systemClock } from '../../../../shared/clock.ts'
import { live } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { pod } from '../../../support/cluster-objects.ts'
import { directoryOf } from '../../../support/directory.ts'
import { federationOf } from '../../../support/federation.ts'
import { revocationsOf } from '../../../support/revocations.ts'

const MIB = 1024 * 1024

t.test('a sidecar that says more than its share is read later, one that does not never waits', async t => {
  let now = 0
  const pace = createPace({ monotonic: () => now })
  /** Lines of this length, one each `everyMs`, and what is waited for besides: the share of time that passes waiting. */
  const waiting = (length: number, everyMs: number, lines: number) => {
    const start = now
    let waited = 0
    for (let line = 0; line < lines; line += 1) {
      const ms = pace(length)
      waited += ms
      now += ms + everyMs
    }
    return { waited, perSecond: (lines * length * 1000) / (now - start) }
  }
  t.equal(waiting(250_000, 0, 16).waited, 0, 'at the start all addresses are met at once')
  now += 10_000
  t.equal(waiting(250_000, 500, 100).waited, 0, 'and then two a second, for ever')
  now += 10_000
  const flood = waiting(MIB, 0, 100)
  t.ok(flood.perSecond < 1.1 * PACE.bytesPerSecond, `${Math.round(flood.perSecond)} bytes a second`)
  now += 10_000
  const crumbs = waiting(2, 0, 100_000)
  t.ok(crumbs.perSecond / 2 < 600, `${Math.round(crumbs.perSecond / 2)} lines a second`)
  t.equal(pace(MIB) > 0, true, 'what is owed is not forgotten at once')
  now += 10_000
  t.equal(pace(MIB), 0, 'but in time')
})

t.test('a control stream waits between the lines of a flood, and not between those of a sidecar', async t => {
  const waits: number[] = []
  /** Others are longer: the directory gathers changes for 50 ms, heartbeats and deadlines are seconds. */
  const paced = () => waits.filter(ms => ms < 20)
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) => {
      waits.push(ms)
      return systemClock.sleep(ms, signal)
    },
  }
  const log = createLogger('test', 'error')
  const end = new AbortController()
  const web = pod('web', { ips: ['127.0.0.1'] })
  const directory = directoryOf({ web, clock, signal: end.signal })
  let refused = 0
  const context = {
    directory,
    trust: live({ trustDomain: 'cluster.local', roots: [] }),
    revocations: revocationsOf(),
    federation: federationOf(),
    clock,
    log,
    onConnected: () => {},
    onStatus: () => {},
    onEnded: () => {},
    onRefused: () => {
      refused += 1
    },
  }
  const { id: identity } = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/web')
  const peer = {
    identity,
    address: '127.0.0.1',
    serial: '0a',
    notAfter: new Date(),
    trustDomain: 'cluster.local',
    certificateHash: '',
  }
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream) => void serveStream(stream, peer, context))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  t.teardown(() => {
    end.abort()
    session.destroy()
    server.close()
  })
  const stream = session.request({ ':method': 'POST', ':path': '/v1/control' })
  stream.on('error', () => undefined).resume()
  const say = (message: object) => stream.write(`${JSON.stringify(message)}\n`)
  say({ kind: 'hello', podUid: 'uid-web', version: 'test', features: ['l4'] })
  await once(stream, 'response')
  const status = { kind: 'status', stateVersion: 1, roots: [] }
  for (let count = 0; count < 100; count += 1) say(status)
  await delay(200)
  t.same(paced(), [], 'control')
  for (let count = 0; count < 2_500; count += 1) say(status)
  await delay(500)
  t.ok(paced().length > 0, `${paced().length} waits`)
  t.equal(refused, 0)
})
