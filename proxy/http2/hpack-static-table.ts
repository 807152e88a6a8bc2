// HPACK's static table (RFC 7541, appendix A): index 1 is the first entry.
import type { Header } from './header.ts'

const EMPTY_VALUES =
  'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control ' +
  'content-disposition content-encoding content-language content-length content-location content-range content-type ' +
  'cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since ' +
  'last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after ' +
  'server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate'

export const STATIC_TABLE: readonly Header[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...EMPTY_VALUES.split(' ').map((name): Header => [name, '']),
]

export type StaticName = {
  /** Of the name's first entry. */
  readonly index: number
  readonly values: ReadonlyMap<string, number>
}

export const STATIC_NAMES: ReadonlyMap<string, StaticName> = new Map(
  [...Map.groupBy(STATIC_TABLE.entries(), ([, [name]]) => name)].map(([name, entries]) => {
    const values = new Map(entries.map(([at, [, value]]) => [value, at + 1]))
    return [name, { index: Math.min(...values.values()), values }]
  }),
)
