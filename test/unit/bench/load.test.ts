import { createServer, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseH2load } from '../../../bench/load/h2load.ts'
import { parseWrk } from '../../../bench/load/wrk.ts'
import { run } from '../../support/processes.ts'

const wrkSays = (failed: number, requests = 30_000) => `Running 3s test @ http://10.77.0.3:8080/1k
  1 threads and 32 connections
JSON {"requests":${requests},"microseconds":3000000,"p50":100,"p99":200,"p999":300,"failed":${failed}}
`

t.test('wrk’s line of JSON is read among its other output', async t => {
  t.same(parseWrk(wrkSays(0)), { requests: 30_000, seconds: 3, p50: 100, p99: 200, p999: 300, failed: 0 })
})

t.test('a subject that refuses requests is not fast', async t => {
  t.throws(() => parseWrk(wrkSays(31)), /31 of 30000 requests failed/)
  t.throws(() => parseWrk(wrkSays(0, 0)), /0 of 0/)
  t.equal(parseWrk(wrkSays(30)).failed, 30)
})

t.test('wrk that did not report is an error with what it said', async t => {
  t.throws(() => parseWrk('unable to connect'), /unable to connect/)
})

const log = (...lines: [status: number, microseconds: number][]) =>
  lines.map(([status, microseconds], i) => `${1_000_000 + i}\t${status}\t${microseconds}\n`).join('')

t.test('latencies of h2load are those of its log', async t => {
  const result = parseH2load('', log([200, 30], [200, 10], [200, 20]), 2)
  t.same(result, { requests: 3, seconds: 2, p50: 20, p99: 30, p999: 30 })
})

t.test('requests of h2load that were not answered with 200 are failures', async t => {
  t.throws(
    () => parseH2load('h2load says', log([200, 30], [403, 10]), 2),
    /1 of 2 requests failed: h2load says/,
  )
  t.throws(() => parseH2load('', '', 2), /requests failed/)
})

t.test('a load at a fixed rate tells the time of each request, however many there are', async t => {
  const sockets = new Set<Socket>()
  const answer = `HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n${'x'.repeat(1024)}`
  const server = createServer({ noDelay: true }, socket => {
    sockets.add(socket)
    socket.on('error', () => {}).on('data', () => socket.write(answer))
  })
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  const pacer = fileURLToPath(new URL('../../../bench/load/pacer.ts', import.meta.url))
  const { stdout } = await run(process.execPath, [pacer, '127.0.0.1', String(port), '15000', '32', '1'])
  const times: number[] = JSON.parse(stdout)
  t.equal(times.length, 15_000)
  t.ok(times.every(time => time > 0))
})
