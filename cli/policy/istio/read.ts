// Istio's policies in YAML, as people apply them or as kubectl prints them, to documents of ours. Whatever would let in more
// than the original is refused by its place; what keeps out more is told in a note.
import { stringify } from 'yaml'
import { SYSTEM_NAMESPACE } from '../../../shared/names.ts'
import { POLICY_API_VERSION, parsePolicyConfigMap } from '../../../shared/policy/parse.ts'
import { isNamespaceName } from '../../../shared/policy/read-selector.ts'
import { type Item, isMapping, type Path, pathText, type Reader } from '../../../shared/policy/reader.ts'
import type { DocumentReader } from '../../../shared/policy/yaml-documents.ts'
import { convertAuthorization } from './authorization.ts'
import type { Origin, Original } from './original.ts'
import { convertPeerAuthentication } from './peer-authentication.ts'

export type Converted = {
  readonly kind: string
  /** Of ours: the root namespace has become the injector's. */
  readonly namespace: string
  readonly name: string
  readonly yaml: string
}

export type IstioDocument = {
  readonly place: string
  readonly converted: readonly Converted[]
  readonly notes: readonly string[]
}

/** Undefined where it was reported, or there is nothing to write. */
type Convert = (original: Original) => object | undefined

const KINDS: ReadonlyMap<string, Convert> = new Map([
  ['AuthorizationPolicy', convertAuthorization],
  ['PeerAuthentication', convertPeerAuthentication],
])
const VERSIONS = ['security.istio.io/v1', 'security.istio.io/v1beta1']

export function istioDocuments(origin: Origin): DocumentReader<IstioDocument> {
  let read = 0
  return {
    noun: 'policies',
    read: (reader, root) => {
      const notes: string[] = []
      const converted = itemsOf(root).flatMap(item => convertObject(reader, item, origin, notes) ?? [])
      read += 1
      return { place: `document ${read}`, converted, notes }
    },
    nameOf: ({ place }) => place,
  }
}

/** Of a list, as kubectl prints it, its items. */
function itemsOf(root: Item): readonly Item[] {
  const { value, path } = root
  if (!isMapping(value) || !Array.isArray(value.items) || !/List$/.test(String(value.kind))) return [root]
  return value.items.map((item: unknown, index) => ({ value: item, path: [...path, 'items', index] }))
}

function convertObject(
  reader: Reader,
  { value, path }: Item,
  origin: Origin,
  notes: string[],
): Converted | undefined {
  if (!isMapping(value)) return undefined
  const { apiVersion, kind } = value
  const written = typeof apiVersion === 'string' ? apiVersion : ''
  if (!written.startsWith('security.istio.io/')) {
    if (written.includes('.istio.io/'))
      notes.push(`${pathText(path) || 'document'}: ${kind} is no policy: left alone`)
    return undefined
  }
  const convert = KINDS.get(String(kind))
  if (convert === undefined || !VERSIONS.includes(written)) {
    reader.report([...path, 'kind'], `${kind} of ${written} is not converted`, BY_HAND)
    return undefined
  }
  const metadata = isMapping(value.metadata) ? value.metadata : {}
  const { name, namespace = origin.namespace } = metadata
  if (typeof name !== 'string' || typeof namespace !== 'string' || !isNamespaceName(namespace)) {
    reader.report([...path, 'metadata'], 'does not say its name and namespace', 'write metadata.name')
    return undefined
  }
  const note = (at: Path, text: string) =>
    notes.push(`${kind} ${namespace}/${name}: ${pathText(at)}: ${text}`)
  const spec = convert({
    ...origin,
    reader,
    namespace,
    spec: { value: value.spec ?? {}, path: [...path, 'spec'] },
    annotations: isMapping(metadata.annotations) ? metadata.annotations : {},
    note,
  })
  if (spec === undefined) return undefined
  const ours = namespace === origin.rootNamespace ? SYSTEM_NAMESPACE : namespace
  const yaml = stringify({ apiVersion: POLICY_API_VERSION, kind, metadata: { name }, spec }, PLAIN)
  reportProblems(reader, yaml, ours, path)
  return { kind: String(kind), namespace: ours, name, yaml }
}

/** Nothing is an alias of anything. */
const PLAIN = { aliasDuplicateObjects: false }

const BY_HAND = 'write it by hand, by docs/policy.md, or take it out of this file'

/** What our own reader says of the result, at the place of the original that has the same path. */
function reportProblems(reader: Reader, yaml: string, namespace: string, base: Path): void {
  const parsed = parsePolicyConfigMap(
    { data: { converted: yaml } },
    { namespace, systemNamespace: SYSTEM_NAMESPACE },
  )
  if (parsed.kind === 'valid') return
  for (const { path, reason, hint } of parsed.problems)
    reader.report([...base, ...asPath(path)], reason, hint)
}

const asPath = (text: string): Path =>
  [...text.matchAll(/\[(\d+)\]|[^.[\]]+/g)].map(([part, index]) =>
    index === undefined ? part : Number(index),
  )
