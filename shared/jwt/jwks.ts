// JSON Web Key Sets (RFC 7517): the public keys for signatures in one, in their shortest form. Other keys are named, with why
// they are of no use: a written set with such a key is a mistake, a fetched one is used without it.
import { createPublicKey, type KeyObject } from 'node:crypto'
import { type Decode, listOf, object, optional, text } from '../decode.ts'
import { ALGORITHMS, fits } from './algorithms.ts'
import { type JsonObject, parseStrictObject } from './strict-json.ts'

export type PublicJwk = {
  readonly kty: string
  readonly kid?: string
  /** The only algorithm that it is for. */
  readonly alg?: string
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly n?: string
  readonly e?: string
}

export type Jwks = {
  readonly keys: readonly PublicJwk[]
  /** One line each. */
  readonly unusable: readonly string[]
}

export const MAX_KEYS = 32
const MAX_KID = 256
const RSA_BITS = { least: 2048, most: 8192 } as const
/** As every issuer has it; a long one makes each verification slow. */
const MAX_RSA_EXPONENT = 2n ** 32n

/** Members of private and symmetric keys (RFC 7518, section 6). */
const SECRET = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']

/** @throws Error: the text is no set of keys. */
export function readJwks(text: string): Jwks {
  const { keys: list } = parseStrictObject(text)
  if (!Array.isArray(list)) throw new Error('has no list "keys"')
  if (list.length > MAX_KEYS) throw new Error(`has more than ${MAX_KEYS} keys`)
  const keys: PublicJwk[] = []
  const unusable: string[] = []
  for (const [index, entry] of list.entries()) {
    const read = readKey(entry)
    if (typeof read === 'string') unusable.push(`key ${index} ${read}`)
    else keys.push(read)
  }
  return { keys, unusable }
}

/** The key, or why it is of no use. */
function readKey(entry: unknown): PublicJwk | string {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return 'is no object'
  const jwk: JsonObject = { ...entry }
  const { kty, alg } = jwk
  if (kty === 'oct' || SECRET.some(member => jwk[member] !== undefined))
    return 'is private or symmetric: whoever reads it can sign'
  if (typeof kty !== 'string') return 'has no kty'
  if (alg !== undefined && (typeof alg !== 'string' || !ALGORITHMS.has(alg)))
    return `is for the algorithm ${JSON.stringify(alg).slice(0, 40)}`
  const key = { ...publicMembers(jwk), kty }
  return otherUse(jwk) ?? obstacleTo(key) ?? key
}

const publicMembers = ({ kid, alg, crv, x, y, n, e }: JsonObject): { readonly [name: string]: string } =>
  Object.fromEntries(
    Object.entries({ kid, alg, crv, x, y, n, e }).filter(
      (member): member is [string, string] => typeof member[1] === 'string',
    ),
  )

function otherUse({ kid, use, key_ops: operations }: JsonObject): string | undefined {
  if (kid !== undefined && (typeof kid !== 'string' || kid === '' || kid.length > MAX_KID))
    return 'has no text as kid'
  if (use !== undefined && use !== 'sig') return 'is not for signatures (use)'
  if (operations === undefined || (Array.isArray(operations) && operations.includes('verify')))
    return undefined
  return 'is not to verify with (key_ops)'
}

function obstacleTo(key: PublicJwk): string | undefined {
  const algorithms = [...ALGORITHMS].filter(([, algorithm]) => fits(algorithm, key)).map(([name]) => name)
  if (algorithms.length === 0 || (key.alg !== undefined && !algorithms.includes(key.alg)))
    return `has a kty and crv (${key.kty}, ${key.crv ?? 'none'}) that no algorithm takes`
  try {
    const { modulusLength: bits, publicExponent = 0n } = keyOf(key).asymmetricKeyDetails ?? {}
    if (bits !== undefined && (bits < RSA_BITS.least || bits > RSA_BITS.most))
      return `has ${bits} bits, not ${RSA_BITS.least} to ${RSA_BITS.most}`
    return publicExponent > MAX_RSA_EXPONENT ? 'has an exponent that is too long' : undefined
  } catch {
    return 'does not parse'
  }
}

/** @throws Error */
export function keyOf({ kty, crv, x, y, n, e }: PublicJwk): KeyObject {
  const members = Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined)
  return createPublicKey({ key: Object.fromEntries(members), format: 'jwk' })
}

const filled = text(value => value !== '', 'a string that is not empty')
const member = optional(filled)

/** Of the injector, which has read them. */
export const decodeKeys: Decode<readonly PublicJwk[]> = listOf(
  object<PublicJwk>({
    kty: filled,
    kid: member,
    alg: member,
    crv: member,
    x: member,
    y: member,
    n: member,
    e: member,
  }),
)
