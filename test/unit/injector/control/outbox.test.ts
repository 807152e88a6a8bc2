// What a change costs on the wire when many are revoked: the list goes to each sidecar once, and again when it changes.
import t from 'tap'
import type { FromInjector, State } from '../../../../shared/control/messages.ts'
import { NOBODY_REVOKED } from '../../../../shared/revocation.ts'
import { policies } from '../../../support/cluster-objects.ts'
import { directoryOf, outboxTo } from '../../../support/directory.ts'
import { revocationsOf } from '../../../support/revocations.ts'

const SIDECARS = 500
const serials = Array.from({ length: 1_000 }, (_, n) => n.toString(16).padStart(32, '4'))
const named = (name: string) =>
  `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}}\nspec: {}`

function start() {
  const directory = directoryOf()
  const revocations = revocationsOf()
  const sent: FromInjector[] = []
  const outboxes = Array.from({ length: SIDECARS }, () => outboxTo(sent, directory, { revocations }))
  return {
    directory,
    revocations,
    /** What all sidecars are sent now. */
    refresh: () => {
      for (const outbox of outboxes) outbox.refreshState()
      return sent.splice(0) as State[]
    },
  }
}

const bytesOf = (messages: readonly FromInjector[]): number =>
  messages.reduce((sum, message) => sum + Buffer.byteLength(`${JSON.stringify(message)}\n`), 0)

t.test('with a thousand revoked certificates a change of policy costs what it does with none', async t => {
  const { directory, revocations, refresh } = start()
  t.same(new Set(refresh().map(({ revoked }) => revoked)), new Set([NOBODY_REVOKED]), 'at first always')
  const edit = (name: string) => {
    directory.feed({ kind: 'set', resource: 'configmaps', object: policies('some', named(name)) })
    return refresh()
  }
  const cheap = bytesOf(edit('one'))
  revocations.revoke({ serials })
  const list = refresh()
  t.ok(
    list.every(({ revoked }) => revoked?.serials.length === 1_000),
    'all are told, each once',
  )
  const after = edit('two')
  t.equal(after.length, SIDECARS)
  t.notOk(after.some(state => 'revoked' in state))
  t.equal(bytesOf(after), cheap)
  t.comment(
    `${SIDECARS} sidecars: ${bytesOf(list)} bytes when 1,000 serials are revoked, ${bytesOf(after)} with each later change of policy`,
  )
  t.same(refresh(), [], 'and nothing where nothing changed')
})

t.test('lifting the last one is told, too', async t => {
  const { revocations, refresh } = start()
  revocations.revoke({ serials })
  refresh()
  revocations.revoke({})
  t.ok(refresh().every(({ revoked }) => revoked?.serials.length === 0))
})
