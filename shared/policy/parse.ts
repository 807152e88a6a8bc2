// From a policy ConfigMap to validated documents, or to everything that is wrong with it by file, line and column.
// Injector and CLI only: a sidecar gets normalized documents and never loads a YAML parser.
import { nameOf, type PolicyDocument } from './document.ts'
import { overlapsOf } from './outside-overlap.ts'
import { readAuthorization } from './read-authorization.ts'
import { readOutsideHost } from './read-outside-host.ts'
import { readPeerAuthentication } from './read-peer-authentication.ts'
import { readRequestAuthentication } from './read-request-authentication.ts'
import { readName } from './read-selector.ts'
import type { Item, Reader } from './reader.ts'
import { type DocumentConfigMap, type DocumentReader, type Parsed, parseConfigMap } from './yaml-documents.ts'

export const POLICY_API_VERSION = 'policy.postern.dev/v1'
const KINDS = ['AuthorizationPolicy', 'PeerAuthentication', 'RequestAuthentication', 'OutsideHost'] as const

export type ParsedPolicies = Parsed<PolicyDocument>
export type PolicyOrigin = { readonly namespace: string; readonly systemNamespace: string }

/** Every key is a file of YAML documents. One problem anywhere makes the whole invalid: half a policy is another policy. */
export function parsePolicyConfigMap(configMap: DocumentConfigMap, origin: PolicyOrigin): ParsedPolicies {
  const parsed = parseConfigMap(configMap, policies(origin))
  const overlaps = parsed.kind === 'valid' ? overlapsOf(parsed.documents) : []
  if (overlaps.length === 0) return parsed
  const problems = overlaps.map(([one, other]) => ({
    file: 'data',
    line: 1,
    column: 1,
    path: '',
    reason: `OutsideHost ${one} and ${other} declare the same address and port for the same pods`,
    hint: 'give each its own addresses or ports: a sidecar would use neither',
  }))
  return { kind: 'invalid', problems }
}

const policies = (origin: PolicyOrigin): DocumentReader<PolicyDocument> => ({
  noun: 'policies',
  read: (reader, root) => readPolicy(reader, root, origin),
  nameOf: document => `${document.kind} ${nameOf(document)}`,
})

function readPolicy(reader: Reader, root: Item, origin: PolicyOrigin): PolicyDocument | undefined {
  const fields = reader.mapping(root, ['apiVersion', 'kind', 'metadata', 'spec'], ['status'])
  if (fields === undefined) return undefined
  const field = (name: keyof typeof fields): Item => fields[name] ?? { value: undefined, path: [name] }
  const isVersion = (text: string) => text === POLICY_API_VERSION
  reader.text(field('apiVersion'), isVersion, `write apiVersion: ${POLICY_API_VERSION}`)
  const kind = reader.oneOf(field('kind'), KINDS)
  const name = readName(reader, field('metadata'), origin.namespace)
  if (kind === undefined) return undefined
  const meshWide = origin.namespace === origin.systemNamespace
  const place = { namespace: origin.namespace, name: name ?? '', meshWide }
  switch (kind) {
    case 'AuthorizationPolicy':
      return readAuthorization(reader, field('spec'), place)
    case 'PeerAuthentication':
      return readPeerAuthentication(reader, field('spec'), place)
    case 'RequestAuthentication':
      return readRequestAuthentication(reader, field('spec'), place)
    case 'OutsideHost':
      return readOutsideHost(reader, field('spec'), place)
  }
}
