// The host of a request as policies know it. RFC 9110, section 7.2, without what no client of ours has a reason to send:
// user names, percent-encoding, an empty host.
import { isIPv6 } from 'node:net'
import { PosternError } from '../errors.ts'

const AUTHORITY =
  /^(?:\[(?<address>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?)(?::(?<port>[0-9]{1,5}))?$/
const MOST_CHARACTERS = 255

/** Lower case, without the root's dot, with the port if there is one. @throws PosternError PSTN_HTTP_MALFORMED */
export function normalizeHost(authority: string): string {
  const { address, name, port } = AUTHORITY.exec(authority)?.groups ?? {}
  const host = address === undefined ? name : isIPv6(address) ? `[${address}]` : undefined
  if (!host || host.length > MOST_CHARACTERS || Number(port ?? 0) > 65_535)
    throw new PosternError('PSTN_HTTP_MALFORMED', 'the host is not a name or address with an optional port')
  return (port === undefined ? host : `${host}:${port}`).toLowerCase()
}
