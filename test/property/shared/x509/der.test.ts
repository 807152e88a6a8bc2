// Whatever bytes arrive, the readers end with a value or with their own error, and what a reader accepts is
// the only encoding of what it read.
import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { PosternError } from '../../../../shared/errors.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { createCsr, parseCsr } from '../../../../shared/x509/csr.ts'
import {
  DerError,
  type DerValue,
  der,
  derOid,
  readBitString,
  readBoolean,
  readDer,
  readInside,
  readInteger,
  readOid,
  readTime,
} from '../../../../shared/x509/der.ts'
import { decodePem, encodePem } from '../../../../shared/x509/pem.ts'
import { testAuthority } from '../../../support/certificates.ts'

const identity = 'spiffe://cluster.local/ns/shop/sa/cart'
const bytes = fc.uint8Array({ maxLength: 300 }).map(array => Buffer.from(array))
const tag = fc.integer({ min: 0, max: 255 }).filter(value => (value & 0x1f) !== 0x1f)
const nested = fc.letrec<{ value: Buffer }>(tie => ({
  value: fc.oneof(
    { maxDepth: 6 },
    fc.tuple(tag, bytes).map(([t, content]) => der(t, content)),
    fc.tuple(tag, fc.array(tie('value'), { maxLength: 4 })).map(([t, parts]) => der(t, ...parts)),
  ),
})).value

const leaf = parseCertificate((await (await testAuthority('cluster.local')).issue({ identity })).leaf)
const csr = parseCsr(createCsr(generateKeyPairSync('ec', { namedCurve: 'P-256' }), identity))

/** `original` with a few bytes changed, and perhaps cut off. */
const mutated = (original: Buffer) =>
  fc
    .tuple(
      fc.array(fc.tuple(fc.nat(original.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.oneof(
        { weight: 4, arbitrary: fc.constant(original.length) },
        { weight: 1, arbitrary: fc.nat(original.length) },
      ),
    )
    .map(([changes, length]) => {
      const copy = Buffer.from(original)
      for (const [at, byte] of changes) copy[at] = byte
      return copy.subarray(0, length)
    })

/** Everything that can be reached, within the input's bounds. */
function walk(value: DerValue, from: Buffer): void {
  const within = value.raw.byteOffset >= from.byteOffset
  const ends = value.raw.byteOffset + value.raw.length <= from.byteOffset + from.length
  if (!within || !ends || !der(value.tag, value.content).equals(value.raw))
    throw new Error('not the one encoding')
  const readers = [readInteger, readBoolean, readBitString, readOid, readTime]
  for (const read of readers) allowing(DerError, () => read(value))
  allowing(DerError, () => {
    for (const inner of readInside(value, value.tag)) walk(inner, from)
  })
}

function allowing(error: new (...args: never[]) => Error, read: () => unknown): void {
  try {
    read()
  } catch (thrown) {
    if (!(thrown instanceof error)) throw thrown
  }
}

t.test('random bytes never make the reader throw anything but its own error', async t => {
  fc.assert(
    fc.property(bytes, input => allowing(DerError, () => walk(readDer(input), input))),
    { numRuns: 2000 },
  )
  t.pass()
})

t.test('nested values read back, each with its one encoding', async t => {
  fc.assert(
    fc.property(nested, input => walk(readDer(input), input)),
    { numRuns: 500 },
  )
  t.pass()
})

t.test('changed certificates and requests never make a reader throw anything but its own error', async t => {
  for (const original of [leaf.x509.raw, csr.der]) {
    fc.assert(fc.property(mutated(original), input => allowing(DerError, () => walk(readDer(input), input))))
  }
  fc.assert(
    fc.property(mutated(leaf.x509.raw), input => allowing(DerError, () => parseCertificate(input))),
    { numRuns: 2000 },
  )
  t.pass()
})

t.test('a changed request is refused, or not validly signed', async t => {
  const label = 'CERTIFICATE REQUEST'
  const holds = (input: Buffer) => {
    if (input.equals(csr.der)) return
    allowing(PosternError, () => {
      const { info, signatureValid } = parseCsr(encodePem(label, input))
      if (signatureValid && info.equals(csr.info))
        throw new Error('the signature or its wrapping is malleable')
    })
  }
  fc.assert(fc.property(mutated(csr.der), holds), { numRuns: 2000 })
  t.pass()
})

t.test('object identifiers read back', async t => {
  const arcs = fc.array(fc.bigInt({ min: 0n, max: 2n ** 40n }), { maxLength: 8 })
  const head = fc.oneof(
    fc.tuple(fc.integer({ min: 0, max: 1 }), fc.integer({ min: 0, max: 39 })),
    fc.tuple(fc.constant(2), fc.nat(10_000)),
  )
  fc.assert(
    fc.property(head, arcs, (first, rest) => {
      const dotted = [...first, ...rest].join('.')
      return readOid(readDer(derOid(dotted))) === dotted
    }),
  )
  t.pass()
})

t.test('PEM reads back, and any other text is undefined', async t => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), array => {
      const content = Buffer.from(array)
      return decodePem('X', encodePem('X', content))?.equals(content) === true
    }),
  )
  fc.assert(fc.property(fc.string(), text => decodePem('X', text) === undefined))
  t.pass()
})
