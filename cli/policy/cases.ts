// The file of `postern policy test`: which policies, whom they protect, and what is expected of whom.
import { canonicalAddress } from '../../shared/addresses.ts'
import type { EndUser } from '../../shared/policy/end-user.ts'
import { readPort } from '../../shared/policy/read-operation.ts'
import { isNamespaceName, isObjectName } from '../../shared/policy/read-selector.ts'
import { type Item, isMapping, type Reader } from '../../shared/policy/reader.ts'
import type { DocumentReader } from '../../shared/policy/yaml-documents.ts'
import { isTrustDomain, parseSpiffeId } from '../../shared/spiffe-id.ts'

/** Who asks for what. */
export type Call = {
  /** Absent: a plaintext caller. */
  readonly identity?: string
  readonly address: string
  readonly port: number
  readonly request?: {
    readonly method: string
    readonly path: string
    readonly host: string
    readonly headers: Readonly<Record<string, string>>
    /** Of a token that was verified; absent: it carries none. */
    readonly claims?: EndUser['claims']
  }
}

export type Case = Call & {
  readonly name: string
  readonly expect: 'allow' | 'deny'
  /** The policy that is to decide, `<namespace>/<name>`. */
  readonly by?: string
}

export type Suite = {
  readonly policies: readonly string[]
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
  readonly trustDomain: string
  readonly defaultAction: 'allow' | 'deny'
  readonly mode: 'permissive' | 'strict'
  readonly cases: readonly Case[]
}

export const TRUST_DOMAIN = 'cluster.local'
/** Of callers that say none: no network that a policy would name. */
export const ADDRESS = '192.0.2.1'

export const suites: DocumentReader<Suite> = {
  noun: 'tests',
  read: readSuite,
  nameOf: ({ policies, namespace, labels }) => JSON.stringify([policies, namespace, labels]),
}

function readSuite(reader: Reader, root: Item): Suite | undefined {
  const fields = reader.mapping(root, ['policies', 'pod', 'trustDomain', 'defaultAction', 'mode', 'tests'])
  if (fields === undefined) return undefined
  const need = (name: 'policies' | 'pod' | 'tests') => fields[name] ?? { value: undefined, path: [name] }
  const trustDomain = fields.trustDomain
    ? reader.text(fields.trustDomain, isTrustDomain, 'write a trust domain')
    : TRUST_DOMAIN
  const pod = readPod(reader, need('pod'))
  const policies = reader.list(need('policies'), 'name the files of the policies', entry =>
    reader.text(entry, text => text !== '', 'write a path, relative to this file'),
  )
  const defaultAction = fields.defaultAction ? reader.oneOf(fields.defaultAction, ['allow', 'deny']) : 'allow'
  const mode = fields.mode ? reader.oneOf(fields.mode, ['permissive', 'strict']) : 'permissive'
  const cases = reader.list(need('tests'), 'write at least one test', entry =>
    readCase(reader, entry, trustDomain ?? TRUST_DOMAIN),
  )
  if (!trustDomain || !pod || !policies || !defaultAction || !mode || !cases) return undefined
  return { policies, ...pod, trustDomain, defaultAction, mode, cases }
}

function readPod(reader: Reader, item: Item): Pick<Suite, 'namespace' | 'labels'> | undefined {
  const fields = reader.mapping(item, ['namespace', 'labels'])
  if (fields === undefined) return undefined
  const place = fields.namespace ?? { value: undefined, path: [...item.path, 'namespace'] }
  const namespace = reader.text(place, isNamespaceName, 'write the namespace of the pod that is called')
  const labels = fields.labels ? readTexts(reader, fields.labels) : {}
  return namespace && labels ? { namespace, labels } : undefined
}

function readTexts(reader: Reader, { value, path }: Item): Readonly<Record<string, string>> | undefined {
  if (isMapping(value) && Object.values(value).every(text => typeof text === 'string'))
    return value as Readonly<Record<string, string>>
  reader.report(path, 'is no mapping of names to texts', 'write name: "text"')
  return undefined
}

function readCase(reader: Reader, item: Item, trustDomain: string): Case | undefined {
  const fields = reader.mapping(item, ['name', 'from', 'port', 'request', 'expect', 'by'])
  if (fields === undefined) return undefined
  const need = (name: 'name' | 'from' | 'port' | 'expect') =>
    fields[name] ?? { value: undefined, path: [...item.path, name] }
  const name = reader.text(need('name'), text => text !== '', 'write what the test shows')
  const call = readCall(
    reader,
    { from: need('from'), port: need('port'), request: fields.request },
    trustDomain,
  )
  const expect = reader.oneOf(need('expect'), ['allow', 'deny'])
  const by =
    fields.by && reader.text(fields.by, text => text.includes('/'), 'write <namespace>/<name> of a policy')
  if (!name || !call || !expect) return undefined
  return { name, ...call, expect, ...(by && { by }) }
}

type CallFields = { readonly from: Item; readonly port: Item; readonly request: Item | undefined }

export function readCall(reader: Reader, fields: CallFields, trustDomain: string): Call | undefined {
  const from = readFrom(reader, fields.from, trustDomain)
  const port = readPort(reader, fields.port)
  const request = fields.request && readRequest(reader, fields.request)
  if (!from || !port || (fields.request && !request)) return undefined
  return { ...from, port, ...(request && { request }) }
}

function readFrom(
  reader: Reader,
  item: Item,
  trustDomain: string,
): Pick<Call, 'identity' | 'address'> | undefined {
  const fields = reader.mapping(item, ['serviceAccount', 'principal', 'plaintext', 'address'])
  if (fields === undefined) return undefined
  const { serviceAccount, principal, plaintext } = fields
  if ([serviceAccount, principal, plaintext].filter(field => field !== undefined).length !== 1) {
    reader.report(
      item.path,
      'does not say who calls',
      'write one of serviceAccount, principal, and plaintext: true',
    )
    return undefined
  }
  const address = fields.address
    ? reader.text(fields.address, text => canonicalAddress(text) === text, 'write an IP address')
    : ADDRESS
  const account =
    serviceAccount && reader.text(serviceAccount, isAccount, 'write <namespace>/<service account>')
  const id = principal && reader.text(principal, isSpiffeId, 'write a SPIFFE ID, spiffe://…')
  if (plaintext) reader.oneOf({ ...plaintext, value: String(plaintext.value) }, ['true'])
  if (address === undefined || (serviceAccount && !account) || (principal && !id)) return undefined
  const identity = account ? identityOf(account, trustDomain) : id
  return { address, ...(identity && { identity }) }
}

function identityOf(account: string, trustDomain: string): string {
  const [namespace, name] = account.split('/')
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${name}`
}

function isAccount(text: string): boolean {
  const [namespace = '', name = '', ...rest] = text.split('/')
  return isNamespaceName(namespace) && isObjectName(name) && rest.length === 0
}

function isSpiffeId(text: string): boolean {
  try {
    return parseSpiffeId(text).id === text
  } catch {
    return false
  }
}

function readRequest(reader: Reader, item: Item): Call['request'] | undefined {
  const fields = reader.mapping(item, ['method', 'path', 'host', 'headers', 'claims'])
  if (fields === undefined) return undefined
  const method = fields.method
    ? reader.text(fields.method, text => /^[A-Z-]+$/.test(text), 'write a method in capital letters')
    : 'GET'
  const path = fields.path
    ? reader.text(
        fields.path,
        text => text.startsWith('/') || text === '*',
        'write a path that begins with /',
      )
    : '/'
  const host = fields.host ? reader.text(fields.host, text => text !== '', 'write a host') : ''
  const headers = fields.headers ? readTexts(reader, fields.headers) : {}
  const claims = fields.claims && readClaims(reader, fields.claims)
  if (!method || !path || host === undefined || !headers || (fields.claims && !claims)) return undefined
  return { method, path, host, headers, ...(claims && { claims }) }
}

function readClaims(reader: Reader, { value, path }: Item): EndUser['claims'] | undefined {
  if (isMapping(value) && typeof value.iss === 'string') return value
  reader.report(path, 'has no iss', 'write the claims of the token: {iss: https://…, sub: …, …}')
  return undefined
}
