// Whatever an agent sends, and however the socket cuts it, the readers end with a value or with their own error, and no key
// is ever in one.
import { inspect } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { MAX_MESSAGE_BYTES, MessageReader } from '../../../../proxy/credentials/grpc.ts'
import { ProtobufError, readFields } from '../../../../proxy/credentials/protobuf.ts'
import { svidFor } from '../../../../proxy/credentials/workload-api-message.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { IDENTITY } from '../../../support/offered-pod.ts'
import { field, framed, response, varint } from '../../../support/workload-api.ts'

const bytes = fc.uint8Array({ maxLength: 300 }).map(array => Buffer.from(array))
const authority = await testAuthority('cluster.local')
const { key, chain } = await authority.issue({ identity: IDENTITY })
const whole = response({ identity: IDENTITY, key, chain, bundle: [authority.root] })
const secret = Buffer.from(key.split('\n').slice(1, -2).join(''), 'base64').subarray(36, 68)

/** `original` with a few bytes changed, and perhaps cut off. */
const mutated = (original: Buffer) =>
  fc
    .tuple(
      fc.array(fc.tuple(fc.nat(original.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.oneof({ weight: 3, arbitrary: fc.constant(original.length) }, fc.nat(original.length)),
    )
    .map(([changes, length]) => {
      const copy = Buffer.from(original)
      for (const [at, value] of changes) copy[at] = value
      return copy.subarray(0, length)
    })

t.test('any bytes are fields or a ProtobufError', async t => {
  fc.assert(
    fc.property(bytes, input => {
      try {
        for (const { number, content } of readFields(input)) {
          if (number < 1 || content.length > input.length) throw new Error('an impossible field')
        }
      } catch (thrown) {
        if (!(thrown instanceof ProtobufError)) throw thrown
      }
    }),
    { numRuns: 5_000 },
  )
  t.pass('5,000 inputs')
})

t.test('fields that were written are read back, and numbers of other types passed over', async t => {
  const number = fc.integer({ min: 1, max: 2 ** 29 - 1 })
  const skipped = fc.oneof(
    fc.tuple(number, fc.maxSafeNat()).map(([at, value]) => Buffer.concat([varint(at * 8), varint(value)])),
    number.map(at => Buffer.concat([varint(at * 8 + 1), Buffer.alloc(8, 0xff)])),
    number.map(at => Buffer.concat([varint(at * 8 + 5), Buffer.alloc(4, 0xff)])),
  )
  const entry = fc.tuple(fc.option(skipped, { nil: Buffer.alloc(0) }), number, bytes)
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), entries => {
      const message = Buffer.concat(entries.flatMap(([before, at, content]) => [before, field(at, content)]))
      const read = readFields(message).map(({ number: at, content }) => [at, content.toString('hex')])
      return (
        JSON.stringify(read) ===
        JSON.stringify(entries.map(([, at, content]) => [at, content.toString('hex')]))
      )
    }),
  )
  t.pass()
})

t.test('a damaged message is this pod’s SVID, none, or discarded, and shows no key', async t => {
  const outcomes = { taken: 0, none: 0, discarded: 0 }
  fc.assert(
    fc.property(mutated(whole), message => {
      try {
        const offer = svidFor(IDENTITY, message)
        outcomes[offer ? 'taken' : 'none'] += 1
      } catch (thrown) {
        outcomes.discarded += 1
        if (!(thrown instanceof PosternError) || thrown.code !== 'PSTN_SOURCE_INVALID') throw thrown
        const shown = Buffer.from(inspect(thrown, { depth: 9, showHidden: true }), 'latin1')
        for (const form of [secret, Buffer.from(secret.toString('hex')), Buffer.from(key.slice(60, 100))])
          if (shown.includes(form)) throw new Error('a key was shown')
      }
    }),
    { numRuns: 3_000 },
  )
  t.comment(JSON.stringify(outcomes))
  t.ok(outcomes.taken > 0 && outcomes.none > 0 && outcomes.discarded > 0, 'each of them came')
})

t.test('however a stream is cut, the same messages come out of it', async t => {
  fc.assert(
    fc.property(
      fc.array(bytes, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      (messages, cuts) => {
        const stream = Buffer.concat(messages.map(framed))
        const reader = new MessageReader()
        const read: Buffer[] = []
        for (let at = 0, cut = 0; at < stream.length; cut += 1) {
          const length = cuts[cut % cuts.length] ?? 1
          read.push(...reader.push(stream.subarray(at, at + length)))
          at += length
        }
        return read.length === messages.length && read.every((message, at) => messages[at]?.equals(message))
      },
    ),
  )
  t.pass()
})

t.test('a message that is too long or compressed is refused by its first five bytes', async t => {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(MAX_MESSAGE_BYTES + 1, 1)
  t.throws(() => new MessageReader().push(prefix), { name: 'RangeError' })
  t.throws(() => new MessageReader().push(Buffer.from([1, 0, 0, 0, 0])), /compressed/)
})
