// Who the end user of a request is, by the token that it carries: found where RequestAuthentication says, verified before the
// request is decided on. No token: a request without a user, about which policy decides. A bad one, or two: refused.
import type { Clock } from '../../shared/clock.ts'
import { PosternError } from '../../shared/errors.ts'
import { readToken, type UnverifiedToken } from '../../shared/jwt/token.ts'
import { checkAudience, checkSignature, checkTime } from '../../shared/jwt/verify.ts'
import type { Live } from '../../shared/live.ts'
import { claimAt, type EndUser, principalOf, textOf } from '../../shared/policy/end-user.ts'
import {
  authenticationObstacle,
  type JwtRule,
  type RequestAuthentication,
} from '../../shared/policy/request-authentication.ts'
import { foldedName, type RequestHeaders } from '../../shared/policy/request-headers.ts'
import type { RequestAuthenticator } from '../gate/interface.ts'
import type { KeySets } from './key-sets.ts'
import { type Verified, VerifiedTokens } from './verified-tokens.ts'

export type Authenticator = Disposable &
  RequestAuthenticator & {
    /** Why a user who was found is none any more. */
    judge(user: EndUser): PosternError | undefined
    /** Calls `listener` when users may have become none. */
    onChange(listener: () => void): void
  }

type Place = {
  readonly name: string
  readonly header: string
  readonly prefix: string
  readonly rules: readonly JwtRule[]
}
type Compiled = {
  readonly places: readonly Place[]
  readonly rules: readonly JwtRule[]
  readonly owned: ReadonlySet<string>
  readonly obstacle: string | undefined
}
type Found = { readonly place: Place; readonly token: string }

export function createAuthenticator(
  declared: Live<readonly RequestAuthentication[]>,
  keySets: KeySets,
  { now }: Pick<Clock, 'now'>,
): Authenticator {
  const tokens = new VerifiedTokens()
  const known = new WeakMap<EndUser, Verified>()
  const listeners: (() => void)[] = []
  let compiled = compile(declared.get())
  const changed = () => {
    tokens.clear()
    for (const listener of listeners) listener()
  }
  keySets.follow(compiled.rules.map(({ keys }) => keys))
  const stops = [
    declared.subscribe(documents => {
      if (sameDocuments(documents)) return
      compiled = compile(documents, compiled.rules)
      keySets.follow(compiled.rules.map(({ keys }) => keys))
      changed()
    }),
    keySets.changes.subscribe(changed),
  ]
  let text = JSON.stringify(declared.get())
  const sameDocuments = (documents: readonly RequestAuthentication[]): boolean => {
    const next = JSON.stringify(documents)
    const same = next === text
    text = next
    return same
  }
  const verified = ({ place, token }: Found): Verified => {
    const kept = tokens.get(place.name, token, now())
    if (kept) return kept
    const found = verify(readToken(token), place, compiled, keySets, now())
    tokens.add(place.name, token, found)
    known.set(found.user, found)
    return found
  }
  return {
    authenticate: headersOf => {
      const { places, owned, obstacle } = compiled
      if (obstacle !== undefined) throw new PosternError('PSTN_POLICY_UNSUPPORTED', obstacle)
      if (places.length === 0) return undefined
      const found = findToken(places, headersOf())
      if (found === undefined)
        return { user: undefined, adds: [], removes: name => owned.has(foldedName(name)) }
      const { user, rule } = verified(found)
      const hidden = rule.forward === 'token' ? undefined : foldedName(found.place.header)
      return {
        user,
        adds: claimHeaders(user, rule),
        removes: name => {
          const folded = foldedName(name)
          return folded === hidden || owned.has(folded)
        },
      }
    },
    owns: name => compiled.owned.has(foldedName(name)),
    judge: user => {
      const { endsAt, rule, key } = known.get(user) ?? { endsAt: 0 }
      if (endsAt <= now()) return new PosternError('PSTN_JWT_EXPIRED', 'the token of the request has expired')
      const current = rule && compiled.rules.includes(rule) ? keySets.keysOf(rule.keys) : undefined
      if (key && current?.includes(key)) return undefined
      return new PosternError(
        'PSTN_JWT_KEY_UNKNOWN',
        'what vouched for the token of the request is in force no more',
      )
    },
    onChange: listener => listeners.push(listener),
    [Symbol.dispose]: () => {
      for (const stop of stops) stop()
    },
  }
}

/** A rule that stays is the same object: whom it vouched for stays. */
function compile(documents: readonly RequestAuthentication[], former: readonly JwtRule[] = []): Compiled {
  const places = new Map<string, Place & { rules: JwtRule[] }>()
  const kept = new Map(former.map(rule => [JSON.stringify(rule), rule]))
  const rules = documents.flatMap(document =>
    document.rules.map(rule => kept.get(JSON.stringify(rule)) ?? rule),
  )
  for (const rule of rules)
    for (const { header, prefix } of rule.from) {
      const name = `${header}: ${prefix.toLowerCase()}`
      places.getOrInsertComputed(name, () => ({ name, header, prefix, rules: [] })).rules.push(rule)
    }
  const unknown = documents.find(document => authenticationObstacle(document) !== undefined)
  return {
    places: [...places.values()],
    rules,
    owned: new Set(rules.flatMap(({ toHeaders }) => toHeaders.map(({ header }) => foldedName(header)))),
    obstacle:
      unknown &&
      `RequestAuthentication ${unknown.name} needs ${authenticationObstacle(unknown)}, which this sidecar does not know`,
  }
}

/** @throws PosternError PSTN_JWT_MULTIPLE */
function findToken(places: readonly Place[], headers: RequestHeaders): Found | undefined {
  let found: Found | undefined
  for (const place of places) {
    const token = tokenAt(place, headers)
    if (token === undefined) continue
    if (found) throw new PosternError('PSTN_JWT_MULTIPLE', 'the request carries more than one token')
    found = { place, token }
  }
  return found
}

function tokenAt({ header, prefix }: Place, headers: RequestHeaders): string | undefined {
  const value = headers.get(header)
  if (value === null)
    throw new PosternError('PSTN_JWT_MULTIPLE', `the request has ${header} twice, or in two spellings`)
  if (value === undefined) return undefined
  const start = value.slice(0, prefix.length).toLowerCase()
  // Blanks at its end are gone where nothing follows.
  if (start !== prefix.toLowerCase() && start !== prefix.toLowerCase().trimEnd()) return undefined
  return value.slice(prefix.length).trimStart()
}

/** @throws PosternError */
function verify(
  token: UnverifiedToken,
  place: Place,
  { rules }: Compiled,
  keySets: KeySets,
  now: number,
): Verified {
  const { claims } = token
  const { iss } = claims
  const believed = place.rules.filter(({ issuer }) => issuer === iss)
  if (typeof iss !== 'string' || believed.length === 0)
    throw new PosternError('PSTN_JWT_ISSUER', 'the token is of an issuer that is not believed here')
  const endsAt = checkTime(claims, now)
  let refusal: unknown
  for (const rule of believed)
    try {
      checkAudience(claims, rule.audiences)
      const key = signerOf(token, rule, keySets)
      return { user: { principal: nameOf(claims, iss, rules), claims }, rule, key, endsAt }
    } catch (thrown) {
      refusal ??= thrown
    }
  throw refusal
}

function signerOf(token: UnverifiedToken, { keys: source }: JwtRule, keySets: KeySets) {
  const keys = keySets.keysOf(source)
  if (keys === undefined)
    throw new PosternError('PSTN_JWKS_UNAVAILABLE', 'the keys of the issuer are not known yet')
  try {
    return checkSignature(token, keys)
  } catch (thrown) {
    if (thrown instanceof PosternError && thrown.code === 'PSTN_JWT_KEY_UNKNOWN') keySets.missed(source)
    throw thrown
  }
}

/** A subject may have slashes: it must not look like somebody of another issuer. @throws PosternError PSTN_JWT_ISSUER */
function nameOf(claims: EndUser['claims'], issuer: string, rules: readonly JwtRule[]): string | undefined {
  const principal = principalOf(claims)
  if (rules.some(other => other.issuer.length > issuer.length && principal?.startsWith(`${other.issuer}/`)))
    throw new PosternError('PSTN_JWT_ISSUER', 'the subject of the token reads as one of another issuer')
  return principal
}

/** What no header can say whole is left out. */
function claimHeaders({ claims }: EndUser, { toHeaders }: JwtRule): readonly (readonly [string, string])[] {
  return toHeaders.flatMap(({ header, claim }) => {
    const text = textOf(claimAt(claims, claim))
    return text !== undefined && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text)
      ? [[header, text] as const]
      : []
  })
}
