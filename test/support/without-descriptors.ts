// Run with few descriptors allowed (`ulimit -n`): takes all that are left, and prints as what the dial of an application, and
// of a tunnel, of a port that listens fails then.
import { openSync } from 'node:fs'
import { dial } from '../../proxy/forward/dial.ts'
import { handshake } from '../../proxy/tunnel/handshake.ts'
import { Ending } from '../../shared/ending.ts'
import { PosternError } from '../../shared/errors.ts'

const port = Number(process.argv[2])
const tls = { generation: 1, notAfter: new Date(8.64e15), context: {} }

async function codeOf(attempt: () => Promise<unknown>): Promise<string> {
  try {
    await attempt()
    return 'opened'
  } catch (thrown) {
    return thrown instanceof PosternError ? thrown.code : String(thrown)
  }
}

const both = async () => [
  await codeOf(() => dial({ address: '127.0.0.1', port }, { signal: new Ending() })),
  await codeOf(() => handshake('127.0.0.1', port, tls, 1_000)),
]
const before = await both()
try {
  for (;;) openSync('/dev/null', 'r')
} catch {}
console.log(JSON.stringify([before, await both()]))
process.exit(0)
