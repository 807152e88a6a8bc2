// Trailers that would change what was already decided on, if an application merges them into the head (RFC 9110, section 6.5.1):
// where the message ends, where it goes, who sends it.
const FORBIDDEN: ReadonlySet<string> = new Set([
  'authorization',
  'connection',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'cookie',
  'expect',
  'forwarded',
  'host',
  'http2-settings',
  'keep-alive',
  'max-forwards',
  'proxy-authorization',
  'proxy-connection',
  'range',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** In whatever case, and with whatever sign for the hyphen. */
export function isForbiddenTrailer(name: string): boolean {
  const folded = name.toLowerCase().replace(/[^0-9a-z]/g, '-')
  return FORBIDDEN.has(folded) || folded.startsWith('x-forwarded-') || folded.startsWith('if-')
}
