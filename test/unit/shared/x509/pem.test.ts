import t from 'tap'
import { decodePem, encodePem } from '../../../../shared/x509/pem.ts'

const bytes = Buffer.from('a certificate request of more than forty-eight bytes, so that it takes two lines')
const block = encodePem('CERTIFICATE REQUEST', bytes)

t.test('reads back what it writes, with or without the last newline', async t => {
  t.same(decodePem('CERTIFICATE REQUEST', block), bytes)
  t.same(decodePem('CERTIFICATE REQUEST', block.trimEnd()), bytes)
})

t.test('lines are 64 characters, as RFC 7468 asks', async t => {
  const [, ...lines] = block.trimEnd().split('\n')
  t.equal(lines[0]?.length, 64)
})

const [, first = '', second = ''] = block.split('\n')
const refused: Record<string, string> = {
  'another label': encodePem('CERTIFICATE', bytes),
  'two blocks': block + block,
  'text before the block': `hello\n${block}`,
  'text after the block': `${block}hello\n`,
  'an empty line after the block': `${block}\n`,
  'a header inside': block.replace('\n', '\nProc-Type: 4,ENCRYPTED\n\n'),
  'a character that is not base64': block.replace(first, `${first.slice(0, -1)}!`),
  'a space inside': block.replace(second, ` ${second}`),
  'the alphabet of URLs': encodePem('CERTIFICATE REQUEST', Buffer.from('fbff', 'hex')).replace(
    '+/8=',
    '-_8=',
  ),
  'bits behind the padding': encodePem('CERTIFICATE REQUEST', Buffer.from('00', 'hex')).replace(
    'AA==',
    'AB==',
  ),
  'no content': '-----BEGIN CERTIFICATE REQUEST-----\n\n-----END CERTIFICATE REQUEST-----\n',
  'carriage returns': block.replaceAll('\n', '\r\n'),
  nothing: '',
}
for (const [name, text] of Object.entries(refused)) {
  t.test(`refuses ${name}`, async t => {
    t.equal(decodePem('CERTIFICATE REQUEST', text), undefined)
  })
}
