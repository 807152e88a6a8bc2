import t from 'tap'
import {
  contextTag,
  DerError,
  der,
  derOid,
  readBitString,
  readBoolean,
  readDer,
  readInside,
  readInteger,
  readOid,
  readTime,
  TAG,
} from '../../../../shared/x509/der.ts'

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')
const value = (text: string) => readDer(hex(text))

t.test('reads a value, its content and what is inside', async t => {
  const outer = value('30 06 02 01 05 04 01 ff')
  t.equal(outer.tag, TAG.sequence)
  const [number, bytes] = readInside(outer, TAG.sequence)
  t.same(number?.content, hex('05'))
  t.same(bytes?.raw, hex('04 01 ff'))
})

t.test('reads a length in the long form', async t => {
  t.equal(readDer(Buffer.concat([hex('04 81 80'), Buffer.alloc(128)])).content.length, 128)
  t.equal(readDer(Buffer.concat([hex('04 82 01 00'), Buffer.alloc(256)])).content.length, 256)
})

const notDer: Record<string, string> = {
  'nothing at all': '',
  'a tag without a length': '30',
  'a length that reaches behind the end': '04 05 00',
  'bytes after the value': '05 00 00',
  'the indefinite length': '30 80 00 00',
  'a short length in the long form': '04 81 01 00',
  'a long length with a leading zero': `04 82 00 81 ${'00'.repeat(0x81)}`,
  'a length of more than four bytes': '04 85 00 00 00 00 01 00',
  'a tag of more than one byte': '1f 81 01 00',
  'a length that is cut off': '04 82 01',
}
for (const [name, bytes] of Object.entries(notDer)) {
  t.test(`refuses ${name}`, async t => {
    t.throws(() => value(bytes), DerError)
  })
}

t.test('refuses another tag than the one expected, and a missing value', async t => {
  t.throws(() => readDer(hex('05 00'), TAG.sequence), DerError)
  t.throws(() => readInside(undefined, TAG.sequence), DerError)
  t.throws(() => readInside(value('04 00'), TAG.sequence), DerError)
})

t.test('refuses more values in one than any certificate has', async t => {
  t.throws(() => readInside(readDer(der(TAG.sequence, Buffer.alloc(4096))), TAG.sequence), DerError)
})

t.test('integers are minimal two’s complement', async t => {
  t.same(readInteger(value('02 02 00 80')), hex('00 80'))
  t.same(readInteger(value('02 01 ff')), hex('ff'))
  for (const bad of ['02 00', '02 02 00 7f', '02 02 ff 80', '04 01 00']) {
    t.throws(() => readInteger(value(bad)), DerError, bad)
  }
})

t.test('booleans are one byte, all ones or all zeros', async t => {
  t.equal(readBoolean(value('01 01 ff')), true)
  t.equal(readBoolean(value('01 01 00')), false)
  for (const bad of ['01 01 01', '01 00', '01 02 ff ff'])
    t.throws(() => readBoolean(value(bad)), DerError, bad)
})

t.test('bit strings say how many bits are unused, and those are zero', async t => {
  t.same(readBitString(value('03 02 07 80')), { bytes: hex('80'), unusedBits: 7 })
  t.same(readBitString(value('03 01 00')), { bytes: hex(''), unusedBits: 0 })
  for (const bad of ['03 00', '03 01 01', '03 02 08 00', '03 02 07 81']) {
    t.throws(() => readBitString(value(bad)), DerError, bad)
  }
})

t.test('object identifiers read back as they were written', async t => {
  for (const oid of ['2.5.29.17', '1.2.840.113549.1.9.14', '0.9.2342', '2.999.3', '2.5.29.4294967296123']) {
    t.equal(readOid(readDer(derOid(oid))), oid)
  }
  for (const bad of ['06 00', '06 02 80 01', '06 01 81', `06 41 ${'01'.repeat(65)}`]) {
    t.throws(() => readOid(value(bad)), DerError, bad)
  }
})

const time = (tag: number, text: string) => readTime(readDer(der(tag, Buffer.from(text))))

t.test('times turn the century at 2050, as RFC 5280 says', async t => {
  t.equal(time(TAG.utcTime, '260102030405Z').toISOString(), '2026-01-02T03:04:05.000Z')
  t.equal(time(TAG.utcTime, '491231235959Z').toISOString(), '2049-12-31T23:59:59.000Z')
  t.equal(time(TAG.utcTime, '500101000000Z').toISOString(), '1950-01-01T00:00:00.000Z')
  t.equal(time(TAG.generalizedTime, '20520229000000Z').toISOString(), '2052-02-29T00:00:00.000Z')
})

t.test('refuses times without seconds, with a zone, or that do not exist', async t => {
  for (const bad of ['2601020304Z', '260102030405+0100', '260230000000Z', '260102240000Z', '260102030460Z']) {
    t.throws(() => time(TAG.utcTime, bad), DerError, bad)
  }
  t.throws(() => time(TAG.generalizedTime, '20260102030405.5Z'), DerError)
  t.throws(() => readTime(value('04 00')), DerError)
})

t.test('writes lengths in the fewest bytes', async t => {
  for (const length of [0, 127, 128, 255, 256, 65_535, 65_536]) {
    const written = der(contextTag(2), Buffer.alloc(length))
    t.equal(readDer(written, contextTag(2)).content.length, length)
  }
})
