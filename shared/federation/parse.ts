// From a federation ConfigMap to validated documents, or to everything that is wrong with it by file, line and column.
// Injector and CLI only: a sidecar never loads a YAML parser.
import { isObjectName } from '../policy/read-selector.ts'
import type { Item, Reader } from '../policy/reader.ts'
import {
  type DocumentConfigMap,
  type DocumentReader,
  type Parsed,
  parseConfigMap,
} from '../policy/yaml-documents.ts'
import { conflictAmong } from './conflicts.ts'
import { type FederationDocument, nameOf } from './document.ts'
import { readPartnerClients } from './read-partner-clients.ts'
import { readTrustDomain } from './read-trust-domain.ts'

const FEDERATION_API_VERSION = 'federation.postern.dev/v1'
const KINDS = ['TrustDomain', 'PartnerClients'] as const

export type ParsedFederation = Parsed<FederationDocument>

/** One problem anywhere makes the whole invalid. */
export function parseFederation(configMap: DocumentConfigMap, ownTrustDomain: string): ParsedFederation {
  const parsed = parseConfigMap(configMap, reading(ownTrustDomain))
  if (parsed.kind === 'invalid') return parsed
  const reason = conflictAmong(parsed.documents)
  if (reason === undefined) return parsed
  const place = { file: 'data', line: 1, column: 1, path: '' }
  return { kind: 'invalid', problems: [{ ...place, reason, hint: 'keep one of them' }] }
}

const reading = (ownTrustDomain: string): DocumentReader<FederationDocument> => ({
  noun: 'federation documents',
  nameOf,
  read: (reader, root) => {
    const fields = reader.mapping(root, ['apiVersion', 'kind', 'metadata', 'spec'], ['status'])
    if (fields === undefined) return undefined
    const field = (name: keyof typeof fields): Item => fields[name] ?? { value: undefined, path: [name] }
    const isVersion = (text: string) => text === FEDERATION_API_VERSION
    reader.text(field('apiVersion'), isVersion, `write apiVersion: ${FEDERATION_API_VERSION}`)
    const kind = reader.oneOf(field('kind'), KINDS)
    const name = readName(reader, field('metadata')) ?? ''
    if (kind === undefined) return undefined
    const read = kind === 'TrustDomain' ? readTrustDomain : readPartnerClients
    return read(reader, field('spec'), { name, ownTrustDomain })
  },
})

function readName(reader: Reader, metadata: Item): string | undefined {
  const fields = reader.mapping(metadata, ['name', 'labels'], ['annotations'])
  const item = fields?.name ?? { value: undefined, path: [...metadata.path, 'name'] }
  return fields && reader.text(item, isObjectName, 'write a name of lower-case letters, digits, - and .')
}
