// Whatever a caller writes, a path has at most one normal form, and that is what every reader of URLs makes of it.
import fc from 'fast-check'
import t from 'tap'
import { PosternError } from '../../../../shared/errors.ts'
import { normalizePath, otherReading } from '../../../../shared/http/path.ts'

const piece = fc.constantFrom(
  ...[
    '/',
    '//',
    '.',
    '..',
    '...',
    ';',
    ';x=1',
    'a',
    'B',
    '~',
    '%2e',
    '%2E',
    '%41',
    '%2f',
    '%5c',
    '%00',
    '%3A',
    '%3b',
    '%25',
    '%c3%a9',
  ],
  ...['\xe9', '\\', '"', '<', '[', '|', '%', '%4', ':', '@', '+', '=', '&', ' ', '#'],
)
const path = fc.array(piece, { maxLength: 12 }).map(pieces => `/${pieces.join('')}`)

function attempt(text: string): string | undefined {
  try {
    return normalizePath(text)
  } catch (thrown) {
    if (thrown instanceof PosternError && thrown.code === 'PSTN_HTTP_MALFORMED') return undefined
    throw thrown
  }
}

t.test('normalizing is idempotent, and its result has nothing left to normalize', async () => {
  fc.assert(
    fc.property(path, text => {
      const normal = attempt(text)
      if (normal === undefined) return true
      const clean = !/\/\/|\/\.\.?(?:\/|$)|[^\x21-\x7e]|%(?![0-9A-F]{2})|%(?:2F|5C|3B|00)|[\\#?]/.test(normal)
      return clean && normal.startsWith('/') && normalizePath(normal) === normal
    }),
    { numRuns: 20_000 },
  )
})

t.test('a browser’s parser, given the normal form, finds nothing to change', async () => {
  fc.assert(
    fc.property(path, text => {
      const normal = attempt(text)
      return normal === undefined || new URL(`http://a${normal}`).pathname === normal
    }),
    { numRuns: 20_000 },
  )
})

t.test('a path that needs nothing and has no parameters has one reading', async () => {
  fc.assert(
    fc.property(fc.stringMatching(/^(?:\/[A-Za-z0-9_~-]{1,5}){1,4}$/), text => {
      return normalizePath(text) === text && otherReading(text) === undefined
    }),
  )
})
