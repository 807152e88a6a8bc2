import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { type WatchEventType, watchList } from '../../../../injector/kube/watch.ts'
import { type Clock, systemClock } from '../../../../shared/clock.ts'
import { connectKube } from '../../../../shared/kube/rest.ts'
import { createLogger } from '../../../../shared/log.ts'

type Thing = { metadata: { name: string; resourceVersion: string } }
type Seen = { list: string[] } | { type: WatchEventType; name: string }

const thing = (name: string, resourceVersion = '1'): Thing => ({ metadata: { name, resourceVersion } })
const list = (names: string[], resourceVersion: string, next?: string) =>
  JSON.stringify({
    metadata: { resourceVersion, ...(next && { continue: next }) },
    items: names.map(name => thing(name)),
  })
const event = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`

/** Waits a hundredth of what is asked, so that back-off and stall are seen in a test's time. */
const hurried: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 100, signal) }

type Answer = (url: URL, response: ServerResponse, request: IncomingMessage) => void

/** Serves the given answers, one a request (the last again and again), and records what the handlers see. */
async function watching(t: Test, answers: Answer[], until: (seen: Seen[]) => boolean, timeoutSeconds = 300) {
  const urls: URL[] = []
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://x')
    urls.push(url)
    answers[Math.min(urls.length, answers.length) - 1]?.(url, response, request)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const kube = connectKube({ server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  const stop = new AbortController()
  t.teardown(() => {
    stop.abort()
    kube[Symbol.dispose]()
    server.closeAllConnections()
    server.close()
  })
  const seen: Seen[] = []
  const check = () => {
    if (until(seen)) stop.abort()
  }
  await watchList<Thing>(
    kube,
    '/things',
    { labelSelector: 'a=b' },
    {
      onList: items => {
        seen.push({ list: items.map(item => item.metadata.name) })
        check()
      },
      onEvent: (type, object) => {
        seen.push({ type, name: object.metadata.name })
        check()
      },
    },
    { signal: stop.signal, log: createLogger('test', 'error'), clock: hurried, timeoutSeconds },
  )
  return { seen, urls }
}

t.test('objects as large as the API server keeps them stop neither the list nor the watch', async t => {
  // 1.5 MiB in etcd, but JSON may write each byte as \u003c.
  const padding = ' '.repeat(9 * 1024 * 1024)
  const { seen, urls } = await watching(
    t,
    [
      (_, response) => {
        for (let sent = 0; sent < 8; sent += 1) response.write(padding)
        response.end('{}')
      },
      (_, response) => response.end(list(['a'], '7', 'more')),
      (_, response) => response.end(list(['b'], '7')),
      (_, response) =>
        response.write(`{"type":"ADDED",${padding}"object":${JSON.stringify(thing('c', '8'))}}\n`),
    ],
    seen => seen.length === 2,
  )
  t.same(seen, [{ list: ['a', 'b'] }, { type: 'ADDED', name: 'c' }])
  const limits = urls.map(({ searchParams }) => searchParams.get('limit'))
  t.same(limits, ['500', '63', '126', null], 'a page that is too much is asked for in smaller ones')
})

t.test('a list comes in pages, then events follow from its version', async t => {
  const { seen, urls } = await watching(
    t,
    [
      (_, response) => response.end(list(['a'], '7', 'more')),
      (_, response) => response.end(list(['b'], '7')),
      (_, response) => {
        response.write(event('ADDED', thing('c', '8')).slice(0, 20))
        setTimeout(() => {
          response.write(event('ADDED', thing('c', '8')).slice(20) + event('BOOKMARK', thing('', '9')))
          response.write(event('DELETED', thing('a', '10')))
        }, 5)
      },
    ],
    seen => seen.length === 3,
  )
  t.same(seen, [{ list: ['a', 'b'] }, { type: 'ADDED', name: 'c' }, { type: 'DELETED', name: 'a' }])
  t.equal(urls[1]?.searchParams.get('continue'), 'more')
  t.match(Object.fromEntries(urls[2]?.searchParams ?? []), {
    watch: 'true',
    allowWatchBookmarks: 'true',
    resourceVersion: '7',
    labelSelector: 'a=b',
  })
})

t.test('a watch that the server ends goes on from the last bookmark, without a new list', async t => {
  const { seen, urls } = await watching(
    t,
    [
      (_, response) => response.end(list(['a'], '7')),
      (_, response) => {
        response.write(event('BOOKMARK', thing('', '20')))
        setTimeout(() => response.end(), 1_050)
      },
      (_, response) => response.write(event('MODIFIED', thing('a', '21'))),
    ],
    seen => seen.length === 2,
  )
  t.same(seen, [{ list: ['a'] }, { type: 'MODIFIED', name: 'a' }])
  t.equal(urls[2]?.searchParams.get('resourceVersion'), '20')
})

t.test(
  'a watch through which not even a bookmark came is not gone on with: its version may be of the future',
  async t => {
    const { seen, urls } = await watching(
      t,
      [
        (_, response) => response.end(list(['lost'], '1000')),
        (_, response) => {
          response.flushHeaders()
          setTimeout(() => response.end(), 1_050)
        },
        (_, response) => response.end(list(['restored'], '7')),
        (_, response) => response.write('\n'),
      ],
      seen => seen.length === 2,
    )
    t.same(seen, [{ list: ['lost'] }, { list: ['restored'] }])
    t.equal(urls[2]?.searchParams.get('watch'), null)
  },
)

const gone = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' }
const failing: [string, Answer][] = [
  ['an ERROR event with code 410', (_, response) => response.end(event('ERROR', gone))],
  [
    'HTTP status 410',
    (_, response) => {
      response.statusCode = 410
      response.end(JSON.stringify(gone))
    },
  ],
  ['a reset connection', (_, __, request) => request.socket.destroy()],
  ['a line that is no JSON', (_, response) => response.end('{"type":\n')],
  ['an end at once', (_, response) => response.end()],
  ['a server that goes silent', (_, response) => response.flushHeaders()],
]
for (const [name, answer] of failing) {
  t.test(`${name} leads to a full list anew`, async t => {
    const { seen } = await watching(
      t,
      [(_, r) => r.end(list(['a'], '7')), answer, (_, r) => r.end(list(['b'], '9')), (_, r) => r.write('\n')],
      seen => seen.length === 2,
      1,
    )
    t.same(seen, [{ list: ['a'] }, { list: ['b'] }])
  })
}

t.test('a line without end is cut off at its cap', async t => {
  const { seen } = await watching(
    t,
    [
      (_, r) => r.end(list(['a'], '7')),
      (_, r) => r.end(Buffer.alloc(9 * 1024 * 1024, 'x')),
      (_, r) => r.end(list(['b'], '9')),
      (_, r) => r.write('\n'),
    ],
    seen => seen.length === 2,
  )
  t.same(seen, [{ list: ['a'] }, { list: ['b'] }])
})

t.test('a failing server is not stormed: each retry waits longer', async t => {
  const times: number[] = []
  const refuse: Answer = (_, response) => {
    times.push(performance.now())
    response.statusCode = 500
    response.end('broken')
  }
  await watching(t, [...Array(6).fill(refuse), (_, r) => r.end(list(['a'], '7'))], seen => seen.length === 1)
  const waits = times.slice(1).map((time, index) => time - (times[index] ?? 0))
  t.equal(waits.length, 5)
  t.ok((waits[4] ?? 0) > (waits[0] ?? 0) * 2, `waits grow: ${waits.map(Math.round)}`)
})

t.test('what a list holds until its last page leaves out who wrote which field', async t => {
  const server = createServer((_, response) =>
    response.end(
      JSON.stringify({
        metadata: { resourceVersion: '7' },
        items: [{ metadata: { name: 'a', managedFields: [{ manager: 'kubelet' }] } }],
      }),
    ),
  )
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  using kube = connectKube({ server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  const stop = new AbortController()
  const onList = (items: object[]) => {
    t.strictSame(items, [{ metadata: { name: 'a' } }])
    stop.abort()
  }
  const options = { signal: stop.signal, log: createLogger('test', 'error'), clock: hurried }
  await watchList(kube, '/things', {}, { onList, onEvent: () => {} }, options)
})
