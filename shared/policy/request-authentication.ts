// Whose tokens the requests of a pod may carry: as it is sent to a sidecar. The YAML form is read-request-authentication.ts.
import { type Decode, extensible, listOf, object, oneOf, optional, tagged, text } from '../decode.ts'
import { decodeKeys, type PublicJwk } from '../jwt/jwks.ts'
import type { ClaimPath } from './end-user.ts'

/** A header that holds a token, behind `prefix`. */
export type TokenLocation = {
  /** In lower case. */
  readonly header: string
  /** As it is written; letters of either case are the same. Empty: the whole value is the token. */
  readonly prefix: string
}

export type ClaimHeader = { readonly header: string; readonly claim: ClaimPath }

type InlineKeys = { readonly kind: 'inline'; readonly keys: readonly PublicJwk[] }
export type FetchedKeys = {
  readonly kind: 'uri'
  readonly uri: string
  /** PEM. Absent: the public roots that Node ships. */
  readonly roots?: readonly string[]
}
export type KeySource = InlineKeys | FetchedKeys

export type JwtRule = {
  readonly issuer: string
  /** One of them must be the token's, exactly; `*`: whatever it says. */
  readonly audiences: readonly string[]
  readonly keys: KeySource
  readonly from: readonly TokenLocation[]
  readonly toHeaders: readonly ClaimHeader[]
  /** Whether the application gets the token. */
  readonly forward: 'token' | 'nothing'
}

export type RequestAuthentication = {
  /** `<namespace>/<name>` */
  readonly name: string
  readonly rules: readonly JwtRule[]
  /** What a sidecar must know; where it does not, it refuses the requests. */
  readonly features: readonly string[]
}

const RULE_FIELDS: ReadonlySet<string> = new Set<keyof JwtRule>([
  'issuer',
  'audiences',
  'keys',
  'from',
  'toHeaders',
  'forward',
])

/** What of it this build does not know, or undefined. A newer injector is the honest reason. */
export function authenticationObstacle({ features, rules }: RequestAuthentication): string | undefined {
  const [feature] = features
  if (feature !== undefined) return feature
  const field = rules.flatMap(rule => Object.keys(rule)).find(key => !RULE_FIELDS.has(key))
  return field && `the field ${field}`
}

const filled = text(value => value !== '', 'a string that is not empty')
const headerName = text(value => isHeaderName(value), 'a header name in lower case')

export const isHeaderName = (value: string): boolean => /^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(value)

export const decodeRequestAuthentication: Decode<readonly RequestAuthentication[]> = listOf(
  extensible<RequestAuthentication>({
    name: filled,
    rules: listOf(
      extensible<JwtRule>({
        issuer: filled,
        audiences: listOf(filled),
        keys: tagged<KeySource>({
          inline: object<InlineKeys>({ kind: oneOf(['inline']), keys: decodeKeys }),
          uri: object<FetchedKeys>({ kind: oneOf(['uri']), uri: filled, roots: optional(listOf(filled)) }),
        }),
        from: listOf(extensible<TokenLocation>({ header: headerName, prefix: text(() => true, 'a string') })),
        toHeaders: listOf(extensible<ClaimHeader>({ header: headerName, claim: listOf(filled) })),
        forward: oneOf(['token', 'nothing']),
      }),
    ),
    features: listOf(filled),
  }),
)
