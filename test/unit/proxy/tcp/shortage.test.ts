import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { isOwnShortage } from '../../../../proxy/tcp/shortage.ts'
import { portOf } from '../../../support/tcp-pair.ts'

const SCRIPT = new URL('../../../support/without-descriptors.ts', import.meta.url).pathname

t.test('a shortage is told from a failure of who was dialled', async t => {
  t.ok(isOwnShortage(Object.assign(new Error('connect'), { code: 'EMFILE' })))
  t.notOk(isOwnShortage(Object.assign(new Error('connect'), { code: 'ECONNREFUSED' })))
  t.notOk(isOwnShortage(new Error('no code')))
  t.notOk(isOwnShortage(undefined))
})

t.test('without a descriptor a dial fails by our limit, and with one as it does', async t => {
  const server = createServer(socket => socket.on('error', () => {}).end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const limited = 'ulimit -n 64; exec "$0" --disable-warning=ExperimentalWarning "$@"'
  const args = ['-c', limited, process.execPath, SCRIPT, String(portOf(server))]
  const { stdout } = await promisify(execFile)('sh', args)
  t.same(JSON.parse(stdout), [
    ['opened', 'PSTN_TLS_FAILED'],
    ['PSTN_LIMIT', 'PSTN_LIMIT'],
  ])
})
