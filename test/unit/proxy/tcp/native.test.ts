// With a Node that hides its sockets a sidecar does not start, and says why.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'

const ACCEPT = new URL('../../../../proxy/tcp/accept.ts', import.meta.url)

const MISSING = {
  'process.binding is gone': "Reflect.deleteProperty(process, 'binding')",
  'process.binding knows no sockets': 'process.binding = () => { throw new Error("No such module") }',
  'what it has is something else': 'process.binding = () => ({ TCP: class {} })',
  'a server accepts in another way':
    "(await import('node:net')).Server.prototype.listen = function () { process.nextTick(() => this.emit('listening')) }",
}

for (const [what, hide] of Object.entries(MISSING)) {
  t.test(`listening fails where ${what}`, async t => {
    const program = `${hide}
      const { listenTcp } = await import(${JSON.stringify(ACCEPT)})
      const told = listenTcp({ host: '127.0.0.1', port: 0 }, () => {}, () => {})
      console.log(await told.then(() => 'it listens', error => error.code))`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
    t.equal(stdout.trim(), 'PSTN_CONFIG_INVALID')
  })
}
