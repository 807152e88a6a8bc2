// The forms of a request target (RFC 9112, section 3.2): a path, or a whole URL whose host must be the one of the Host field.
import { malformed } from '../refusal.ts'

/** Path and query, as sent. @throws HttpRefusal */
export function readRequestTarget(target: string, host: string | undefined): string {
  if (target.includes('#')) throw malformed('the target has a fragment')
  if (target.startsWith('/')) return target
  const [, authority, origin = '/'] = /^http:\/\/([^/?@\\]+)([/?].*)?$/i.exec(target) ?? []
  if (authority === undefined) throw malformed('the target is neither a path nor an http URL')
  if (host === undefined || authority.toLowerCase() !== host.toLowerCase())
    throw malformed('the host of the target is not the host field')
  return origin.startsWith('?') ? `/${origin}` : origin
}
