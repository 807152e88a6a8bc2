import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { ErrorCode } from '../../../../../proxy/http2/errors.ts'
import { goawayFrame } from '../../../../../proxy/http2/frames.ts'
import { Ending } from '../../../../../shared/ending.ts'
import { GET, http2InMemory, POST } from '../../../../support/http2-in-memory.ts'

/** From the notice to the last word. */
const NOTICE_MS = 1_100
const NOTICE = ['goaway', 2 ** 31 - 1, ErrorCode.NO_ERROR, '']
const OK = [[':status', '200']] as const

const given = (options = {}) => {
  const draining = new Ending()
  return { ...http2InMemory({ draining, ...options }), drain: () => draining.abort(undefined) }
}

t.test('an idle connection gets notice, serves what was on its way, and ends with the last word', async t => {
  const { caller, application, request, answer, seenByCaller, seenByApplication, drain, result } = given()
  drain()
  t.same(seenByCaller(), [NOTICE])
  t.notOk(caller.ended)
  caller.send(request(1, GET, true))
  t.match(seenByApplication(), [['headers', 1]])
  application.send(answer(1, OK, true))
  t.match(seenByCaller(), [['headers', 1]])
  await delay(NOTICE_MS)
  t.same(seenByCaller(), [['goaway', 1, ErrorCode.NO_ERROR, '']])
  t.ok(caller.ended && application.ended)
  t.notOk(caller.wasReset || application.wasReset)
  caller.sendEnd()
  application.sendEnd()
  t.same(await result, { outcome: 'ended' })
})

t.test('what lives is served to its end, and what comes behind the last word may be sent again', async t => {
  const { caller, application, request, answer, seenByCaller, drain, asked } = given()
  caller.send(request(1, POST))
  drain()
  await delay(NOTICE_MS)
  t.same(seenByCaller(), [NOTICE, ['goaway', 1, ErrorCode.NO_ERROR, '']])
  caller.send(request(3, GET, true))
  t.same(seenByCaller(), [['rstStream', 3, ErrorCode.REFUSED_STREAM]])
  t.equal(asked.length, 1)
  application.send(goawayFrame(2 ** 31 - 1, ErrorCode.NO_ERROR))
  t.match(seenByCaller(), [['goaway', 1]], 'the last stream never becomes a later one')
  application.send(answer(1, OK, true))
  t.notOk(caller.ended)
  caller.send(request(1, [['x-sum', '1']], true))
  t.ok(caller.ended && application.ended)
})

t.test('before the application has spoken, the caller gets SETTINGS and the last word', async t => {
  const { caller, seenByCaller, drain } = given({ opened: false })
  drain()
  t.same(seenByCaller(), [])
  await delay(NOTICE_MS)
  t.same(seenByCaller(), [['settings'], NOTICE, ['goaway', 0, ErrorCode.NO_ERROR, '']])
  t.ok(caller.ended)
})
