// Whatever a caller and an application send, in whatever order and pieces: what the gate passes on is HTTP/2 that a strict
// receiver takes, nothing reaches the application that was not authorized in that very form, and no byte of a window is
// lost. `POSTERN_FUZZ_COUNT` chooses how many mutants.
import fc from 'fast-check'
import t from 'tap'
import { ErrorCode } from '../../../../../proxy/http2/errors.ts'
import { pingFrame, rstStreamFrame, windowUpdateFrame } from '../../../../../proxy/http2/frames.ts'
import type { Header } from '../../../../../proxy/http2/header.ts'
import { PosternError } from '../../../../../shared/errors.ts'
import { dataFrame, split } from '../../../../support/http2-frames.ts'
import {
  GET,
  type Http2InMemory,
  http2InMemory,
  POST,
  type Received,
} from '../../../../support/http2-in-memory.ts'

const COUNT = Number(process.env.POSTERN_FUZZ_COUNT ?? 100_000) / 20

const allow = ({ path }: { path: string }) => !path.startsWith('/denied')

/** One thing that one side does; `stream` picks among those that were opened. */
const step = fc.record({
  kind: fc.constantFrom(
    ...(['request', 'body', 'trailers', 'cancel'] as const),
    ...(['answer', 'content', 'refuse', 'ping', 'revoke'] as const),
  ),
  path: fc.constantFrom('/', '/a', '/denied', '/a/../denied/x', '/denied;x', '/%2fbroken', '/b//c'),
  contentLength: fc.option(fc.nat(300)),
  stream: fc.nat(6),
  bytes: fc.nat(300),
  ends: fc.boolean(),
})
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

type Peers = Http2InMemory & {
  readonly opened: number[]
  /** By the caller, which sends nothing more on them. */
  readonly ended: Set<number>
  readonly sent: { byCaller: number; byApplication: number }
}

/** What one side has got of windows. */
type Sums = { window: number; credit: number }

t.test('windows add up, and what arrives was authorized in that form, whatever happens', async t => {
  const holds = (steps: readonly Step[]) => {
    const peers: Peers = {
      ...http2InMemory({ allow }),
      opened: [],
      ended: new Set(),
      sent: { byCaller: 0, byApplication: 0 },
    }
    const caller: Sums = { window: 0, credit: 0 }
    const application: Sums = { window: 0, credit: 0 }
    const forwarded: Received[] = []
    for (const step of steps) {
      act(peers, step)
      sum(caller, peers.seenByCaller())
      forwarded.push(...sum(application, peers.seenByApplication()))
    }
    equal(peers.sent.byCaller, application.window + caller.credit, 'of the caller')
    equal(peers.sent.byApplication, caller.window + application.credit, 'of the application')
    authorizedOnly(peers, forwarded)
  }
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), holds), { numRuns: 2_000 })
  t.pass()
})

t.test(`${COUNT} mutated connections never break a receiver on the other side`, async t => {
  const mutation = fc.record({
    at: fc.noBias(fc.nat(1_000_000)),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 2 }),
    ends: fc.array(fc.nat(900), { maxLength: 6 }),
    byApplication: fc.boolean(),
  })
  const { requests, answers } = conversation()
  let ended = 0
  fc.assert(
    fc.property(mutation, ({ at, bytes, ends, byApplication }) => {
      const gate = http2InMemory({ allow })
      const change = (original: Buffer) => {
        const copy = Buffer.from(original)
        const from = at % copy.length
        copy.set(bytes.subarray(0, copy.length - from), from)
        return copy
      }
      for (const chunk of split(byApplication ? requests : change(requests), ends)) gate.caller.send(chunk)
      for (const chunk of split(byApplication ? change(answers) : answers, ends)) gate.application.send(chunk)
      authorizedOnly(gate, gate.seenByApplication())
      if (gate.seenByCaller().some(([kind]) => kind === 'goaway')) ended += 1
      if (gate.live.size > 0 && gate.caller.ended) throw new Error('a grant outlived its connection')
    }),
    { numRuns: COUNT },
  )
  t.ok(ended > 0 && ended < COUNT, `${ended} were given up`)
})

function act(peers: Peers, step: Step): void {
  const { opened, caller, live } = peers
  const { kind, ends, contentLength } = step
  const id = opened[step.stream % Math.max(1, opened.length)]
  if (kind === 'ping') caller.send(pingFrame(Buffer.alloc(8), false))
  else if (kind === 'revoke') {
    const [revoke] = live
    revoke?.(new PosternError('PSTN_POLICY_DENIED', 'revoked'))
  } else if (kind === 'request' || id === undefined) {
    const next = 2 * opened.length + 1
    opened.push(next)
    if (ends) peers.ended.add(next)
    const fields: Header[] = contentLength === null ? [] : [['content-length', `${contentLength}`]]
    caller.send(peers.request(next, [...POST.slice(0, 3), [':path', step.path], ...fields], ends))
  } else onStream(peers, kind, id, step)
}

function onStream(
  { caller, application, request, answer, sent, ended }: Peers,
  kind: Exclude<Step['kind'], 'request' | 'ping' | 'revoke'>,
  id: number,
  { bytes, ends }: Step,
): void {
  const byCaller = kind === 'body' || kind === 'trailers' || kind === 'cancel'
  if (byCaller && ended.has(id)) return
  if (byCaller && (ends || kind !== 'body')) ended.add(id)
  if (kind === 'body') sent.byCaller += bytes
  if (kind === 'content') sent.byApplication += bytes
  const acts = {
    body: () => caller.send(dataFrame(id, Buffer.alloc(bytes), ends)),
    trailers: () => caller.send(request(id, [['x-trailer', 'end']], true)),
    cancel: () => caller.send(rstStreamFrame(id, ErrorCode.CANCEL)),
    answer: () => application.send(answer(id, [[':status', '200']], ends)),
    content: () => application.send(dataFrame(id, Buffer.alloc(bytes), ends)),
    refuse: () => application.send(rstStreamFrame(id, ErrorCode.REFUSED_STREAM)),
  }
  acts[kind]()
}

function conversation(): { requests: Buffer; answers: Buffer } {
  const gate = http2InMemory()
  const path = (path: string): Header[] => [...GET.slice(0, 3), [':path', path]]
  const requests = [
    gate.request(1, path('/a'), true),
    gate.request(3, [...POST, ['content-length', '5']]),
    gate.request(5, path('/denied/x'), true),
    dataFrame(3, Buffer.from('12345'), true),
    windowUpdateFrame(0, 1_000),
    gate.request(7, [...path('/b//c'), ['x-name', 'value']]),
    gate.request(7, [['x-trailer', 'end']], true),
  ]
  const answers = [
    gate.answer(1, [
      [':status', '200'],
      ['server', 'x'],
    ]),
    dataFrame(1, Buffer.from('content'), true),
    gate.answer(3, [[':status', '103']]),
    gate.answer(3, [[':status', '204']], true),
    windowUpdateFrame(3, 99),
    pingFrame(Buffer.alloc(8), true),
    gate.answer(7, [
      [':status', '200'],
      ['server', 'x'],
    ]),
    gate.answer(7, [['grpc-status', '0']], true),
  ]
  return { requests: Buffer.concat(requests), answers: Buffer.concat(answers) }
}

function sum(sums: Sums, seen: readonly Received[]): readonly Received[] {
  for (const [kind, id, second, third] of seen) {
    if (kind === 'goaway') throw new Error('the connection was given up')
    if (kind === 'data') sums.window += Number(third)
    if (kind === 'windowUpdate' && id === 0) sums.credit += Number(second)
  }
  return seen
}

/** Every head that the application got was asked about, with the path and method that it has there, and was allowed. */
function authorizedOnly({ asked }: Http2InMemory, seen: readonly Received[]): void {
  const opened = new Set<number>()
  for (const [, id, headers] of seen.filter(isHead)) {
    const head = new Map(headers.map(([name, value]) => [name, value]))
    if (!opened.has(id)) {
      const path = head.get(':path')?.replace(/\?.*/, '') ?? ''
      const isAsked = asked.some(request => request.path === path && request.method === head.get(':method'))
      if (!isAsked || !allow({ path })) throw new Error(`${path} was forwarded`)
    } else if (head.keys().some(name => name.startsWith(':'))) throw new Error('a second head')
    opened.add(id)
  }
}

type Head = readonly ['headers', number, readonly Header[], boolean]

function isHead(event: Received): event is Head {
  return event[0] === 'headers' && Array.isArray(event[2])
}

function equal(actual: number, expected: number, what: string): void {
  if (actual !== expected)
    throw new Error(`${actual} bytes of the window ${what} were sent, ${expected} are accounted for`)
}
