// RequestAuthentication, in Istio's fields: whose tokens are believed, where they stand, and what the application is told of
// them. What would believe more than was meant is refused: a token for whatever audience must be asked for in so many words.
import { isKeyUrl } from '../jwt/fetchable.ts'
import { readJwks } from '../jwt/jwks.ts'
import type { RequestAuthenticationDocument } from './document.ts'
import type { ClaimPath } from './end-user.ts'
import { readRoots } from './read-outside-host.ts'
import { readSelector } from './read-selector.ts'
import type { Item, Reader } from './reader.ts'
import {
  type ClaimHeader,
  isHeaderName,
  type JwtRule,
  type KeySource,
  type TokenLocation,
} from './request-authentication.ts'

const RULE_FIELDS = [
  'issuer',
  'audiences',
  'jwks',
  'jwksUri',
  'caBundle',
  'fromHeaders',
  'outputClaimToHeaders',
  'forwardOriginalToken',
] as const
const RULE_LATER = ['fromParams', 'fromCookies', 'outputPayloadToHeader', 'timeout', 'jwks_uri']
const MAX_RULES = 16
const BEARER: TokenLocation = { header: 'authorization', prefix: 'Bearer ' }

type RuleFields = { readonly [K in (typeof RULE_FIELDS)[number]]?: Item }

/** Undefined if anything was reported. `name` is `<namespace>/<name>`. */
export function readRequestAuthentication(
  reader: Reader,
  spec: Item,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): RequestAuthenticationDocument | undefined {
  const fields = reader.mapping(spec, ['selector', 'jwtRules'], ['targetRef', 'targetRefs'])
  if (fields === undefined) return undefined
  const selector = fields.selector && readSelector(reader, fields.selector)
  const list = fields.jwtRules ?? { value: undefined, path: [...spec.path, 'jwtRules'] }
  if (Array.isArray(list.value) && list.value.length > MAX_RULES)
    reader.report(list.path, `has more than ${MAX_RULES} rules`, 'write several documents')
  const rules = reader.list(list, 'name at least one issuer', rule => readRule(reader, rule))
  if (rules === undefined) return undefined
  return {
    kind: 'RequestAuthentication',
    namespace,
    ...(selector && { selector }),
    authentication: { name, rules, features: [] },
  }
}

function readRule(reader: Reader, item: Item): JwtRule | undefined {
  const fields: RuleFields | undefined = reader.mapping(item, RULE_FIELDS, RULE_LATER)
  if (fields === undefined) return undefined
  const field = (name: keyof RuleFields): Item =>
    fields[name] ?? { value: undefined, path: [...item.path, name] }
  const issuer = reader.text(field('issuer'), isClaimText, 'write the iss of its tokens, exactly')
  const audiences = readAudiences(reader, field('audiences'))
  const keys = readKeys(reader, item, fields)
  const { fromHeaders, outputClaimToHeaders, forwardOriginalToken } = fields
  const from = fromHeaders
    ? reader.list(fromHeaders, 'leave it out to mean Authorization: Bearer', entry =>
        readLocation(reader, entry),
      )
    : [BEARER]
  const toHeaders = outputClaimToHeaders
    ? reader.list(outputClaimToHeaders, 'leave it out', entry => readClaimHeader(reader, entry))
    : []
  const forward = forwardOriginalToken && readBoolean(reader, forwardOriginalToken) ? 'token' : 'nothing'
  if (!issuer || !audiences || !keys || !from || !toHeaders) return undefined
  const taken = toHeaders.find(({ header }) => from.some(location => location.header === header))
  if (taken)
    reader.report(
      item.path,
      `${taken.header} holds the token and a claim`,
      'give the claim a header of its own',
    )
  return { issuer, audiences, keys, from, toHeaders, forward }
}

const isClaimText = (text: string): boolean => text !== '' && text.length <= 1024 && text.trim() === text

function readAudiences(reader: Reader, item: Item): readonly string[] | undefined {
  const hint = 'name the aud of tokens that are meant for this workload; ["*"] takes those for any other too'
  if (item.value === undefined) {
    reader.report(item.path, 'is missing: tokens that were given to others would be taken', hint)
    return undefined
  }
  return reader.list(item, hint, entry =>
    reader.text(
      entry,
      text => text === '*' || (isClaimText(text) && !text.includes('*')),
      'write it exactly',
    ),
  )
}

function readKeys(
  reader: Reader,
  item: Item,
  { jwks, jwksUri, caBundle }: RuleFields,
): KeySource | undefined {
  if ((jwks === undefined) === (jwksUri === undefined)) {
    const reason = jwks ? 'has both jwks and jwksUri' : 'does not say which keys sign its tokens'
    reader.report(item.path, reason, 'write one of jwks and jwksUri')
    return undefined
  }
  if (jwksUri) return readUri(reader, jwksUri, caBundle)
  if (caBundle) reader.report(caBundle.path, 'stands beside no jwksUri', 'leave it out')
  return jwks && readInline(reader, jwks)
}

function readInline(reader: Reader, item: Item): KeySource | undefined {
  const hint = 'write a JSON Web Key Set as text, with the public keys of the issuer alone'
  const text = reader.text(item, value => value !== '', hint)
  if (text === undefined) return undefined
  try {
    const { keys, unusable } = readJwks(text)
    for (const reason of unusable) reader.report(item.path, reason, hint)
    if (keys.length > 0) return { kind: 'inline', keys }
    if (unusable.length === 0) reader.report(item.path, 'holds no key', hint)
  } catch (thrown) {
    reader.report(item.path, thrown instanceof Error ? thrown.message : String(thrown), hint)
  }
  return undefined
}

function readUri(reader: Reader, item: Item, caBundle: Item | undefined): KeySource | undefined {
  const uri = reader.text(
    item,
    isKeyUrl,
    'write an https URL without user and fragment, such as https://id.example/keys',
  )
  const roots = caBundle && readRoots(reader, caBundle)?.roots
  if (uri === undefined || (caBundle && !roots)) return undefined
  return { kind: 'uri', uri, ...(roots && { roots }) }
}

function readLocation(reader: Reader, item: Item): TokenLocation | undefined {
  const fields = reader.mapping(item, ['name', 'prefix'])
  if (fields === undefined) return undefined
  const header = readHeaderName(reader, fields.name ?? { value: undefined, path: [...item.path, 'name'] })
  const prefix = fields.prefix
    ? reader.text(fields.prefix, value => /^[\x20-\x7e]{1,64}$/.test(value) && !/^ /.test(value), PREFIX)
    : ''
  return header === undefined || prefix === undefined ? undefined : { header, prefix }
}

const PREFIX = 'write the text before the token, with the blank that ends it: "Bearer "'

/** Where messages end and go, who calls: nobody else writes those, and none holds a token. */
const RESERVED =
  /^(?:host|connection|proxy-connection|content-length|content-type|transfer-encoding|upgrade|expect|te|trailer|http2-settings|x-forwarded-client-cert|postern-.*)$/

function readHeaderName(reader: Reader, item: Item): string | undefined {
  const text = reader.text(item, value => isHeaderName(value.toLowerCase()), 'write the name of a header')
  const name = text?.toLowerCase()
  if (name === undefined || !RESERVED.test(name)) return name
  reader.report(item.path, `${name} has a meaning of its own`, 'name another header, for example x-user')
  return undefined
}

function readClaimHeader(reader: Reader, item: Item): ClaimHeader | undefined {
  const fields = reader.mapping(item, ['header', 'claim'])
  if (fields === undefined) return undefined
  const field = (name: 'header' | 'claim'): Item =>
    fields[name] ?? { value: undefined, path: [...item.path, name] }
  const header = readHeaderName(reader, field('header'))
  const text = reader.text(field('claim'), value => claimOf(value) !== undefined, CLAIM)
  const claim = text === undefined ? undefined : claimOf(text)
  if (header === 'authorization')
    reader.report(item.path, 'authorization holds the caller’s own', 'name another header')
  return header === undefined || claim === undefined ? undefined : { header, claim }
}

const CLAIM = 'write the name of a claim, or [a][b] for one inside of another'

function claimOf(text: string): ClaimPath | undefined {
  if (/^(?:\[[^[\]]+\])+$/.test(text)) return text.slice(1, -1).split('][')
  return text !== '' && !/[[\]]/.test(text) ? [text] : undefined
}

function readBoolean(reader: Reader, { value, path }: Item): boolean {
  if (typeof value !== 'boolean')
    reader.report(path, `${JSON.stringify(value)} is neither true nor false`, 'write true')
  return value === true
}
