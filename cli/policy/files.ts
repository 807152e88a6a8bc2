// Policies as they are kept in repositories: manifests of ConfigMaps, as they are applied or as kubectl prints them, or the
// documents alone. What is wrong is told by its place in the file, also inside a ConfigMap's data.
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import { isMap, isScalar, isSeq, LineCounter, parseAllDocuments, type Scalar, type YAMLMap } from 'yaml'
import { POLICY_LABEL, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import type { PolicyDocument, PolicyProblem } from '../../shared/policy/document.ts'
import { POLICY_API_VERSION, parsePolicyConfigMap } from '../../shared/policy/parse.ts'
import { UsageError } from '../command.ts'

export type PolicyFiles = {
  readonly documents: readonly PolicyDocument[]
  readonly problems: readonly PolicyProblem[]
}

const EXTENSION = /\.(ya?ml|json)$/
const STDIN = '-'

/** `namespace`: of what names none. @throws UsageError where there is no such file, or no policy in any */
export async function readPolicyFiles(paths: readonly string[], namespace: string): Promise<PolicyFiles> {
  if (paths.length === 0) throw new UsageError('name at least one file or folder, or - for standard input')
  const texts = await textsIn(paths)
  const found = texts
    .map(({ file, text }) => readText(file, text, namespace))
    .filter(one => one !== undefined)
  if (found.length === 0)
    throw new UsageError(
      `no policy in ${paths.join(', ')}: neither a ConfigMap with the label ${POLICY_LABEL} nor a document of ${POLICY_API_VERSION}`,
    )
  return {
    documents: found.flatMap(({ documents }) => documents),
    problems: found.flatMap(({ problems }) => problems),
  }
}

/** @throws UsageError where there is no such file */
export async function textsIn(
  paths: readonly string[],
): Promise<readonly { readonly file: string; readonly text: string }[]> {
  const files = (await Promise.all(paths.map(filesIn))).flat()
  return Promise.all(
    files.map(async file => ({ file: file === STDIN ? 'stdin' : file, text: await contentOf(file) })),
  )
}

async function filesIn(path: string): Promise<readonly string[]> {
  if (path === STDIN) return [path]
  try {
    if (!(await stat(path)).isDirectory()) return [path]
    const names = await readdir(path, { recursive: true })
    return names
      .filter(name => EXTENSION.test(name))
      .sort()
      .map(name => join(path, name))
  } catch (thrown) {
    throw new UsageError(thrown instanceof Error ? thrown.message : String(thrown))
  }
}

const contentOf = (file: string): Promise<string> =>
  file === STDIN ? textOf(process.stdin) : readFile(file, 'utf8')

/** Undefined for a file that has nothing to do with policies. */
function readText(file: string, text: string, namespace: string): PolicyFiles | undefined {
  const lines = new LineCounter()
  const manifests = [...parseAllDocuments(text, { lineCounter: lines, prettyErrors: false })]
  const objects = manifests.flatMap(({ contents }) => objectsIn(contents))
  const configMaps = objects.filter(isPolicyConfigMap)
  if (configMaps.length > 0)
    return merged(configMaps.map(configMap => readConfigMap(configMap, { file, text, lines, namespace })))
  if (!text.includes(POLICY_API_VERSION)) return undefined
  const named = objects.map(object => object.getIn(['metadata', 'namespace'])).find(isText)
  return parse({ [file]: text }, named ?? namespace)
}

/** Of a list, as `kubectl get --output=yaml` prints it, its items. */
function objectsIn(contents: unknown): readonly YAMLMap[] {
  if (!isMap(contents)) return []
  const items = contents.get('kind') === 'List' && contents.get('items')
  return isSeq(items) ? items.items.filter(isMap) : [contents]
}

const isPolicyConfigMap = (object: YAMLMap): boolean =>
  object.get('kind') === 'ConfigMap' && object.getIn(['metadata', 'labels', POLICY_LABEL]) === 'true'

const isText = (value: unknown): value is string => typeof value === 'string'

const merged = (parts: readonly PolicyFiles[]): PolicyFiles => ({
  documents: parts.flatMap(({ documents }) => documents),
  problems: parts.flatMap(({ problems }) => problems),
})

function parse(data: Readonly<Record<string, string>>, namespace: string): PolicyFiles {
  const parsed = parsePolicyConfigMap({ data }, { namespace, systemNamespace: SYSTEM_NAMESPACE })
  return parsed.kind === 'valid'
    ? { documents: parsed.documents, problems: [] }
    : { documents: [], problems: parsed.problems }
}

type Source = {
  readonly file: string
  readonly text: string
  readonly lines: LineCounter
  readonly namespace: string
}

function readConfigMap(configMap: YAMLMap, source: Source): PolicyFiles {
  const namespace = configMap.getIn(['metadata', 'namespace'])
  const data = configMap.get('data')
  const entries = isMap(data) ? data.items : []
  const nodes = new Map(
    entries.flatMap(({ key, value }) =>
      isScalar(key) && isScalar(value) ? [[String(key.value), value] as const] : [],
    ),
  )
  const texts = Object.fromEntries([...nodes].map(([key, { value }]) => [key, String(value)]))
  const { documents, problems } = parse(texts, isText(namespace) ? namespace : source.namespace)
  return {
    documents,
    problems: problems.map(problem => placed(problem, nodes.get(problem.file) ?? configMap, source)),
  }
}

/** The place in the whole file of a problem in a value that stands there as a block, and of any other the value's. */
function placed(
  problem: PolicyProblem,
  node: Scalar | YAMLMap,
  { file, text, lines }: Source,
): PolicyProblem {
  const [start = 0] = node.range ?? []
  const { line, col } = lines.linePos(start)
  if (!isScalar(node) || node.type !== 'BLOCK_LITERAL')
    return { ...problem, file: isScalar(node) ? `${file}, ${problem.file}` : file, line, column: col }
  const [written = ''] = text.slice(text.indexOf('\n', start) + 1).match(/^ *(?=\S)/m) ?? []
  return { ...problem, file, line: line + problem.line, column: written.length + problem.column }
}
