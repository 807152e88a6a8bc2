// What operators read, line by line, and what programs read.
import t from 'tap'
import { showStatus } from '../../../../cli/ca/shown.ts'
import { createOutput } from '../../../../cli/output.ts'
import { type CaStatus, decodeCaStatus } from '../../../../shared/ca/status.ts'

const at = '2026-01-01T00:00:00.000Z'
const [root, old, next] = ['aa', 'bb', 'cc'].map(byte => ({
  fingerprint: byte.repeat(32),
  notAfter: '2031-01-01T00:00:00.000Z',
})) as [CaStatus['root'], CaStatus['root'], CaStatus['root']]
const idle: CaStatus = {
  phase: 'idle',
  former: [],
  answers: [],
  root,
  issuer: next,
  retired: [],
  waitingFor: [],
  unconfirmed: { count: 0, pods: [] },
  lingering: [],
}

function shown(status: CaStatus, json = false): string {
  let text = ''
  const out = (more: string) => {
    text += more
  }
  showStatus(createOutput({ out, err: t.fail }, json), status)
  return text
}

t.test('a CA at rest is three lines', async t => {
  t.same(shown(idle).split('\n'), [
    'phase      idle',
    `root       ${root.fingerprint}, expires ${root.notAfter}`,
    `issuer     ${next.fingerprint}, expires ${next.notAfter}`,
    '',
  ])
})

t.test('a rotation says which root signs, what is waited for, and for which pods', async t => {
  const rotation = { by: 'alice', began: at, skipped: [{ pod: 'shop/web', uid: 'u', by: 'bob', at }] }
  const pods = [{ pod: 'shop/db', reason: 'not connected' }]
  const text = shown({
    ...idle,
    phase: 'publishing',
    rotation,
    next,
    waitingFor: ['60 pods have not confirmed the next root'],
    unconfirmed: { count: 60, pods },
  })
  t.match(text, /^phase {6}publishing, since 2026-01-01T00:00:00\.000Z, asked by alice$/m)
  t.match(text, /^root {7}a+, expires \S+, signs$/m)
  t.match(text, /^next root {2}c+, expires \S+, published$/m)
  t.match(text, /^waiting {4}60 pods have not confirmed the next root$/m)
  t.match(text, /^UNCONFIRMED +REASON\nshop\/db +not connected\nand 59 more$/m)
  t.match(text, /^SKIPPED +BY +AT\nshop\/web +bob +2026/m)
})

t.test('an old root says until when, and on whose account; one that lingers is loud', async t => {
  const heldBy = { pod: 'shop/old', uid: 'u', serial: '0a0b', notAfter: at }
  const rotation = { by: 'alice', began: at, skipped: [], switched: at, drop: at, seen: at, heldBy }
  const former = [{ fingerprint: next.fingerprint, end: 'revoked' as const, by: 'alice', at }]
  const lingering = [{ fingerprint: next.fingerprint, where: 'ConfigMap postern-trust' }]
  const text = shown({ ...idle, phase: 'switched', rotation, retired: [old], former, lingering })
  t.match(text, /^old root {3}b+, expires \S+, trusted until 2026-01-01T00:00:00\.000Z$/m)
  t.match(text, /^held by {4}shop\/old, 0a0b$/m)
  t.match(text, /^LINGERING {2}c+, trusted no more, but: ConfigMap postern-trust$/m)
  t.match(text, /^FORMER ROOT +END +BY +AT\nc+ +revoked +alice/m)
})

t.test('as JSON it is the status, whole', async t => {
  t.same(decodeCaStatus(JSON.parse(shown(idle, true)), 'output'), idle)
})
