// What policies get to know of headers: nothing unless one of them asks.
import t from 'tap'
import type { HttpRequest } from '../../../../shared/policy/model.ts'
import { gateInMemory } from '../../../support/gate-in-memory.ts'
import { GET, http2InMemory } from '../../../support/http2-in-memory.ts'

const FIELDS = [
  ['x-role', 'admin'],
  ['x-twice', 'a'],
  ['x-twice', 'b'],
] as const
const NAMES = ['x-role', 'x-twice', 'x-none', 'host', ':path']
const seen = ([request]: readonly HttpRequest[]) => NAMES.map(name => request?.headers?.get(name))

t.test('HTTP/1.1: headers are read where a policy asks for them', async t => {
  const text = FIELDS.map(([name, value]) => `${name}:  ${value} \r\n`).join('')
  const head = `GET / HTTP/1.1\r\nHost: a\r\n${text}\r\n`
  const deaf = gateInMemory()
  deaf.caller.send(head)
  t.notOk(deaf.asked[0]?.headers)
  const { caller, application, asked } = gateInMemory({ readsHeaders: () => true })
  caller.send(head.slice(0, 30))
  caller.send(head.slice(30))
  t.same(seen(asked), ['admin', null, undefined, 'a', undefined])
  t.equal(application.text, head)
})

t.test('HTTP/2: likewise, and cookies in pieces are one', async t => {
  const cookies = [
    ['cookie', 'a=1'],
    ['cookie', 'b=2'],
  ] as const
  const deaf = http2InMemory()
  deaf.caller.send(deaf.request(1, [...GET, ...FIELDS, ...cookies], true))
  t.notOk(deaf.asked[0]?.headers)
  const { asked, caller, request } = http2InMemory({ readsHeaders: () => true })
  caller.send(request(1, [...GET, ...FIELDS, ...cookies], true))
  t.same(seen(asked), ['admin', null, undefined, undefined, undefined])
  t.equal(asked[0]?.headers?.get('cookie'), 'a=1; b=2')
})
