// The host of a request as policies know it. RFC 9110, section 7.2, without what no client of ours has a reason to send:
// user names, percent-encoding, an empty host.
import { PosternError } from '../errors.ts'

const AUTHORITY = /^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?)(?::([0-9]{1,5}))?$/

/** Lower case, without the root's dot, with the port if there is one. @throws PosternError PSTN_HTTP_MALFORMED */
export function normalizeHost(authority: string): string {
  const [, host, port] = AUTHORITY.exec(authority) ?? []
  const name = host?.toLowerCase().replace(/\.$/, '')
  if (!name || name.length > 255 || (port !== undefined && Number(port) > 65_535))
    throw new PosternError('PSTN_HTTP_MALFORMED', 'the host is not a name or address with an optional port')
  return port === undefined ? name : `${name}:${port}`
}
