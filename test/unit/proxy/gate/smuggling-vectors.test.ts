import t from 'tap'
import { gateInMemory } from '../../../support/gate-in-memory.ts'
import { messagesIn, showMessage } from '../../../support/http1-messages.ts'
import { type SmugglingVector, smugglingVectors } from '../../../support/smuggling-vectors.ts'

const vectors = smugglingVectors()

/** What the gate makes of the input, where the application answers whatever it gets whole. */
async function outcomeOf(
  chunks: readonly Buffer[],
): Promise<Omit<SmugglingVector, 'group' | 'name' | 'input'>> {
  const over = new AbortController()
  const { caller, application } = gateInMemory({ signal: over.signal })
  let answered = 0
  const settle = async () => {
    for (;;) {
      const complete = messagesIn(Buffer.concat(application.written)).filter(message => message.complete)
      const [next] = complete.slice(answered)
      if (next === undefined || application.wasReset || next.fields.some(([name]) => name === 'upgrade'))
        return
      answered += 1
      application.send('HTTP/1.1 204 No Content\r\n\r\n')
      await null
    }
  }
  for (const chunk of chunks) caller.send(chunk)
  await settle()
  const messages = messagesIn(Buffer.concat(application.written))
  const [, status, code] = /HTTP\/1\.1 (\d+) [^\r]+\r\npostern-code: (\w+)/.exec(caller.text) ?? []
  over.abort()
  const unfinished = messages.find(message => !message.complete)
  return {
    seen: messages.filter(message => message.complete).map(showMessage),
    ...(unfinished && { unfinished: `${unfinished.method} ${unfinished.target}` }),
    ...(status && { answer: `${status} ${code}` }),
  }
}

const expected = ({ seen, unfinished, answer }: SmugglingVector) => ({
  seen,
  ...(unfinished && { unfinished }),
  ...(answer && { answer }),
})

t.test('there are at least three hundred inputs, each with a name of its own', async t => {
  t.ok(vectors.length >= 300, `${vectors.length} inputs`)
  t.equal(new Set(vectors.map(({ group, name }) => `${group}: ${name}`)).size, vectors.length)
})

for (const group of new Set(vectors.map(vector => vector.group)))
  t.test(group, async t => {
    for (const vector of vectors.filter(one => one.group === group)) {
      const input = Buffer.from(vector.input, 'latin1')
      const { unfinished, ...whole } = await outcomeOf([input])
      const { unfinished: begun, ...wanted } = expected(vector)
      t.same(whole, wanted, vector.name)
      t.ok(unfinished === undefined || unfinished === begun, `${vector.name}: at most its head is passed on`)
      if (input.length > 2_000) continue
      const bytes = Array.from(input, byte => Buffer.of(byte))
      t.same(await outcomeOf(bytes), expected(vector), `${vector.name}, byte by byte`)
    }
  })
