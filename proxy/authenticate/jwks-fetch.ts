// One question for the keys of an issuer. The name is resolved here, and what it leads to is looked at: a name that is public
// today may be the pod's own tomorrow.
import { type LookupAddress, lookup } from 'node:dns'
import type { RequestOptions } from 'node:https'
import { canonicalAddress } from '../../shared/addresses.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { getByHttps } from '../../shared/http/https-get.ts'
import { isOutOfReach } from '../../shared/jwt/fetchable.ts'
import { type Jwks, readJwks } from '../../shared/jwt/jwks.ts'
import type { FetchedKeys } from '../../shared/policy/request-authentication.ts'

export type FetchKeys = (source: Pick<FetchedKeys, 'uri' | 'roots'>, signal: AbortSignal) => Promise<Jwks>

const LIMITS = { bytes: 256 * 1024, ms: 5_000 }

/** @throws PosternError PSTN_JWKS_UNAVAILABLE; or the signal's reason. */
export const fetchKeys =
  (forbidden: (address: string) => boolean = isOutOfReach, limits = LIMITS): FetchKeys =>
  async ({ uri: url, roots }, signal) => {
    const host = new URL(url).hostname.replace(/^\[|\]$/g, '')
    // A literal is never looked up.
    if (canonicalAddress(host) !== undefined && forbidden(host))
      throw unavailable(`${host} is of the pod or its node`)
    const late = AbortSignal.timeout(limits.ms)
    const question = { url, roots, most: limits.bytes, unreachable: unavailable, lookup: guarded(forbidden) }
    try {
      const { keys, unusable } = readJwks(await getByHttps(question, AbortSignal.any([signal, late])))
      if (keys.length === 0)
        throw unavailable(`it has no key for signatures${unusable[0] ? `: ${unusable[0]}` : ''}`)
      return { keys, unusable }
    } catch (thrown) {
      signal.throwIfAborted()
      if (late.aborted) throw unavailable(`no whole answer within ${limits.ms / 1000} s`)
      throw unavailable(asPosternError(thrown, 'PSTN_JWKS_UNAVAILABLE').message)
    }
  }

const unavailable = (why: string): PosternError => new PosternError('PSTN_JWKS_UNAVAILABLE', why)

const guarded =
  (forbidden: (address: string) => boolean): Exclude<RequestOptions['lookup'], undefined> =>
  (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      const [first] = addresses ?? []
      if (error || first === undefined)
        return callback(error ?? unavailable(`${hostname} has no address`), '', 0)
      if (addresses.some(({ address }) => forbidden(address)))
        return callback(unavailable(`${hostname} leads to an address of the pod or its node`), '', 0)
      if (options.all) return callback(null, addresses)
      return callback(null, first.address, first.family)
    })
  }
