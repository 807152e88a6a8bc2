// A pattern that can match nothing is refused: each row says what is accepted, and as what.
import t from 'tap'
import { compileHttp, httpMatches } from '../../../../shared/policy/http-match.ts'
import { hostPattern, isMethodPattern, pathProblem } from '../../../../shared/policy/patterns.ts'

t.test('methods are upper-case tokens, in whole or in part', async t => {
  for (const good of ['GET', 'M-SEARCH', 'P*', '*ATCH', '*']) t.equal(isMethodPattern(good), true, good)
  for (const bad of ['get', 'Get', '', 'G T', 'G*T', '*E*', 'GET/', 'GÉT'])
    t.equal(isMethodPattern(bad), false, bad)
})

const HOSTS: readonly (readonly [written: string, normal: string | undefined])[] = [
  ['orders.shop', 'orders.shop'],
  ['Orders.SHOP', 'orders.shop'],
  ['orders', 'orders'],
  ['orders.shop:8080', 'orders.shop:8080'],
  ['orders.shop:*', 'orders.shop'],
  ['10.0.0.1', '10.0.0.1'],
  ['[FD00::1]', '[fd00::1]'],
  ['[fd00::1]:80', '[fd00::1]:80'],
  ['_grpc.orders', '_grpc.orders'],
  ['*', '*'],
  ['*:8080', '*:8080'],
  ['*:*', '*'],
  ['*.shop', '*.shop'],
  ['*shop', '*shop'],
  ['*shop:8080', '*shop:8080'],
  ['orders.*', 'orders.*'],
  ['orders*', 'orders*'],
  ['orders.*:80', undefined],
  ['orders*:80', undefined],
  ['orders.shop.', undefined],
  ['.shop', undefined],
  ['orders..shop', undefined],
  ['*..shop', undefined],
  ['or*ders', undefined],
  ['*orders*', undefined],
  ['orders.shop:0', undefined],
  ['orders.shop:080', undefined],
  ['orders.shop:65536', undefined],
  ['orders.shop:', undefined],
  ['orders.shop/x', undefined],
  ['http://orders', undefined],
  ['user@orders', undefined],
  ['fd00::1', undefined],
  ['', undefined],
  ['örders', undefined],
]

for (const [written, normal] of HOSTS)
  t.test(`the host ${JSON.stringify(written)} is ${normal ?? 'refused'}`, async t =>
    t.equal(hostPattern(written), normal),
  )

const PATHS: readonly string[] = [
  '*',
  '/',
  '/*',
  '/orders',
  '/orders/',
  '/orders/*',
  '/orders*',
  '/a/..*',
  '*/info',
  '*.jpg',
  '*info',
  '/caf%C3%A9',
  '/shop.Orders/Get',
  '/{*}',
  '/users/{*}/files/{**}',
  '/{**}/info',
  '/users/{id}/files/{_2}',
  '/a;v=1',
  "/a!$&'()+,=:@-._~",
]
for (const path of PATHS)
  t.test(`the path ${path} is accepted`, async t => t.equal(pathProblem(path), undefined))

const REFUSED: readonly (readonly [path: string, reason: RegExp, hint?: string])[] = [
  ['orders', /does not begin with/],
  ['orders/*', /does not begin with/],
  ['/a*b', /in the middle/],
  ['*a*', /in the middle/],
  ['/a/*/b*', /in the middle/],
  ['**', /in the middle/],
  ['/a/x{*}', /no whole segment/],
  ['/a/{b-c}', /no whole segment/],
  ['/a/{b}c', /no whole segment/],
  ['/{b}/{b}', /one name to two segments/],
  ['/{**}/{**}', /more than once/],
  ['/a/{*}/*', /outside of braces/],
  ['a/{*}', /does not begin/],
  ['/a//{*}', /normal form/],
  ['/a/../{*}', /normal form/],
  ['/a?b=1', /query/],
  ['/a#b', /fragment/],
  ['/a//b', /normal form/, 'write /a/b'],
  ['/a//*', /normal form/, 'write /a/*'],
  ['*//b', /normal form/, 'write */b'],
  ['/a/./b', /normal form/, 'write /a/b'],
  ['/a/../b', /normal form/, 'write /b'],
  ['/a/..', /normal form/, 'write /'],
  ['/../a', /normal form/],
  ['/%61', /normal form/, 'write /a'],
  ['/caf%c3%a9', /normal form/, 'write /caf%C3%A9'],
  ['/café', /normal form/, 'write /caf%C3%A9'],
  ['/café/*', /normal form/, 'write /caf%C3%A9/*'],
  ['*/café', /normal form/, 'write */caf%C3%A9'],
  ['/a%2Fb', /normal form/],
  ['/a\\b', /normal form/],
  ['/a%', /normal form/],
  ['/a%4*', /normal form/],
  ['/a b', /normal form/],
]
for (const [path, reason, hint] of REFUSED)
  t.test(`the path ${path} is refused with what to write instead`, async t => {
    const problem = pathProblem(path)
    t.match(problem?.reason, reason)
    if (hint === undefined) t.ok(problem?.hint)
    else t.equal(problem?.hint, hint)
  })

t.test('what is accepted matches something', async t => {
  for (const path of PATHS) {
    const example = path === '*' ? '/' : path.startsWith('*') ? `/x${path.slice(1)}` : path.replace('*', 'x')
    const fields = compileHttp({ paths: [path] })
    t.ok(fields && httpMatches(fields, 'ALLOW', { method: 'GET', host: 'a', path: example }), path)
  }
})
