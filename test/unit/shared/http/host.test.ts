import t from 'tap'
import { normalizeHost } from '../../../../shared/http/host.ts'

t.test('a host is lower case, without the root’s dot, with its port', async t => {
  for (const [text, host] of [
    ['Shop.Example', 'shop.example'],
    ['shop.example.:8080', 'shop.example:8080'],
    ['my_shop', 'my_shop'],
    ['10.0.0.1:80', '10.0.0.1:80'],
    ['[FD00::1]:80', '[fd00::1]:80'],
  ] as const)
    t.equal(normalizeHost(text), host)
})

t.test('what is no name or address with a port is refused', async t => {
  for (const text of [
    '',
    '.',
    'a..b',
    '.a',
    ':80',
    'a:',
    'a:x',
    'a:65536',
    'u@a',
    'a/b',
    'a b',
    '::1',
    '[x]',
    '[fd..00::1]',
    '[1::2::3]',
    '[10.0.0.1]',
    'a%2e',
    `${'a'.repeat(256)}`,
  ])
    t.throws(() => normalizeHost(text), { code: 'PSTN_HTTP_MALFORMED' }, text)
})
