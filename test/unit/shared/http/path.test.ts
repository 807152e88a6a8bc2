import t from 'tap'
import { normalizePath, normalizeQuery, otherReading } from '../../../../shared/http/path.ts'

t.test('a path has one normal form', async t => {
  const forms: readonly (readonly [path: string, normal: string])[] = [
    ['/', '/'],
    ['/a/b', '/a/b'],
    ['//a///b//', '/a/b/'],
    ['/a/./b/.', '/a/b/'],
    ['/a/b/..', '/a/'],
    ['/a/..', '/'],
    ['/a/%2E%2e/b', '/b'],
    ['/%41%7e', '/A~'],
    ['/%c3%A9', '/%C3%A9'],
    ['/\xc3\xa9', '/%C3%A9'],
    ['/a"b', '/a%22b'],
    ['/a;b=c/d', '/a;b=c/d'],
    ['/%252e', '/%252e'],
    ['/...', '/...'],
    ['/.a', '/.a'],
  ]
  for (const [path, normal] of forms) t.equal(normalizePath(path), normal, path)
})

t.test('what readers disagree about is refused', async t => {
  const paths = [
    '',
    'a',
    '/..',
    '/a/../..',
    '/%2e%2e',
    '/a%2fb',
    '/a%5Cb',
    '/a\\b',
    '/a%3bb',
    '/..;/a',
    '/.;x/a',
    '/%00',
    '/%0d%0a',
    '/%7f',
    '/a b',
    '/a\tb',
    '/a#b',
    '/a?b',
    '/%',
    '/%4',
    '/%zz',
    '/%u002f',
    '/%c0%af',
    '/\xc0\xaf',
    '/%e0%80%af',
    '/%f0%80%80%af',
    '/\u0100',
  ]
  for (const path of paths) t.throws(() => normalizePath(path), { code: 'PSTN_HTTP_MALFORMED' }, path)
})

t.test('a path with parameters or encoded marks has another reading', async t => {
  t.equal(otherReading('/a/b'), undefined)
  t.equal(otherReading('/a%20b'), undefined, 'a blank is one however it is read')
  t.equal(otherReading('/admin;x=1/b;y'), '/admin/b')
  t.equal(otherReading('/v1/a%3Adelete%21'), '/v1/a:delete!')
  t.equal(otherReading('/a/;x/b'), '/a/b')
})

t.test('of a query only bytes above ASCII are encoded', async t => {
  t.equal(normalizeQuery('?a=%2e/../[]"%'), '?a=%2e/../[]"%')
  t.equal(normalizeQuery('?\xc3\xa9'), '?%C3%A9')
})
