// ConfigMaps that hold YAML documents, read with the place of whatever is wrong: what policy and federation have in common.
// Injector and CLI only: a sidecar gets normalized documents and never loads a YAML parser.
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  LineCounter,
  visit,
  type YAMLError,
  type YAMLMap,
} from 'yaml'
import type { PolicyProblem } from './document.ts'
import { affords, type Budget, MAX_LENGTH, newBudget, parseYaml } from './parse-yaml.ts'
import { createReader, type Item, type Path, pathText, type Reader, type Report } from './reader.ts'

/** Aliases may not blow a small text up: the YAML library counts what they expand to. */
const MAX_ALIASES = 50
/** Each costs its parser's start, however little is in it. */
const MAX_FILES = 500
/** Of one file; each costs a search for its place. */
const MAX_PROBLEMS = 100

export type Parsed<T> =
  | { readonly kind: 'valid'; readonly documents: readonly T[] }
  | { readonly kind: 'invalid'; readonly problems: readonly PolicyProblem[] }

/** What of a ConfigMap matters here. */
export type DocumentConfigMap = {
  readonly data?: { readonly [key: string]: string } | null | undefined
  readonly binaryData?: { readonly [key: string]: string } | null | undefined
}

export type DocumentReader<T> = {
  /** As authors call them together. */
  readonly noun: string
  /** Undefined where it reported. */
  read(reader: Reader, root: Item): T | undefined
  /** What no two documents may have in common: kind and name, as people read it. */
  nameOf(document: T): string
}

/** Every key is a file of YAML documents. One problem anywhere makes the whole invalid: half of it would mean something else. */
export function parseConfigMap<T>(configMap: DocumentConfigMap, reading: DocumentReader<T>): Parsed<T> {
  const { noun, nameOf } = reading
  const length = Object.values(configMap.data ?? {}).reduce((sum, text) => sum + text.length, 0)
  if (length > MAX_LENGTH) {
    const reason = `is ${length} characters long, more than ${MAX_LENGTH}`
    const hint = `spread the ${noun} over several ConfigMaps`
    return { kind: 'invalid', problems: [{ ...START, file: 'data', reason, hint }] }
  }
  const files = Object.keys(configMap.data ?? {}).length
  if (files > MAX_FILES) {
    const reason = `has ${files} files, more than ${MAX_FILES}`
    const hint = `spread the ${noun} over several ConfigMaps, or write more into each file`
    return { kind: 'invalid', problems: [{ ...START, file: 'data', reason, hint }] }
  }
  const problems: PolicyProblem[] = Object.keys(configMap.binaryData ?? {}).map(file => ({
    ...START,
    file,
    reason: 'is binary',
    hint: `${noun} are YAML text under data`,
  }))
  const documents: T[] = []
  const budget = newBudget()
  for (const [file, text] of Object.entries(configMap.data ?? {})) {
    const parsed = parseFile(text, file, reading, budget)
    if (parsed.kind === 'valid') documents.push(...parsed.documents)
    else problems.push(...parsed.problems)
  }
  for (const name of duplicates(documents.map(nameOf)))
    problems.push({
      ...START,
      file: 'data',
      reason: `${name} is written twice`,
      hint: 'give each its own name',
    })
  return problems.length > 0 ? { kind: 'invalid', problems } : { kind: 'valid', documents }
}

function parseFile<T>(
  text: string,
  file: string,
  { read }: Pick<DocumentReader<T>, 'read'>,
  budget: Budget,
): Parsed<T> {
  const problems: PolicyProblem[] = []
  const documents: T[] = []
  const lines = new LineCounter()
  const at = (offset: number, path: Path, reason: string, hint: string) => {
    if (problems.length >= MAX_PROBLEMS) return
    const { line, col } = lines.linePos(offset)
    problems.push({
      file,
      line: Math.max(line, 1),
      column: Math.max(col, 1),
      path: pathText(path),
      reason,
      hint,
    })
  }
  const yaml = parseYaml(text, lines, budget, MAX_PROBLEMS)
  if ('reason' in yaml) at(yaml.offset, [], yaml.reason, yaml.hint)
  for (const document of 'reason' in yaml ? [] : yaml) {
    const errors = [...document.errors.slice(0, MAX_PROBLEMS), ...document.warnings.slice(0, MAX_PROBLEMS)]
    for (const error of errors) at(error.pos[0], [], firstLine(error), YAML_HINT)
    if (errors.length > 0 || isEmpty(document)) continue
    const report: Report = (path, reason, hint) => {
      if (problems.length < MAX_PROBLEMS) at(offsetOf(document, path), path, reason, hint)
    }
    const obstacle = obstacleIn(document)
    const found = obstacle ? at(...obstacle) : readDocument(document, budget, report, read)
    if (found) documents.push(found)
  }
  if (documents.length + problems.length === 0) at(0, [], 'holds no document', 'write one, or remove the key')
  return problems.length > 0 ? { kind: 'invalid', problems } : { kind: 'valid', documents }
}

const START = { line: 1, column: 1, path: '' } as const
const YAML_HINT = 'see https://yaml.org/spec/1.2.2'

type Obstacle = [offset: number, path: Path, reason: string, hint: string]

/** What stands in the way of reading a document's values: a key that is written twice, or too many aliases. */
function obstacleIn(document: Document): Obstacle | undefined {
  let found: Obstacle | undefined
  let aliases = 0
  visit(document, {
    Map: (_, map) => {
      const key = repeatedKey(map)
      if (key === undefined) return undefined
      found = [
        key.range?.[0] ?? 0,
        [],
        `keys must be unique: ${JSON.stringify(key.value)} is written twice`,
        'keep one of them',
      ]
      return visit.BREAK
    },
    Alias: (_, { range }) => {
      aliases += 1
      if (aliases <= MAX_ALIASES) return undefined
      found = [range?.[0] ?? 0, [], `more than ${MAX_ALIASES} aliases`, 'write it without so many aliases']
      return visit.BREAK
    },
  })
  return found
}

function repeatedKey({ items }: YAMLMap) {
  const seen = new Set<unknown>()
  for (const { key } of items) {
    if (!isScalar(key)) continue
    if (seen.has(key.value)) return key
    seen.add(key.value)
  }
  return undefined
}

function readDocument<T>(
  document: Document,
  budget: Budget,
  report: Report,
  read: DocumentReader<T>['read'],
): T | undefined {
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES })
    if (!affords(budget, value)) throw new Error(TOO_LONG)
  } catch (thrown) {
    report([], thrown instanceof Error ? thrown.message : String(thrown), 'write it without so many aliases')
    return undefined
  }
  return read(createReader(report), { value, path: [] })
}

const TOO_LONG = `is longer than ${MAX_LENGTH} characters with its aliases written out`

/** Where a path starts in the text: at the key where a key is meant, else at the nearest thing that exists. */
function offsetOf(document: Document, path: Path): number {
  for (let length = path.length; length > 0; length -= 1) {
    const offset = offsetAt(document, path.slice(0, length))
    if (offset !== undefined) return offset
  }
  return isNode(document.contents) ? (document.contents.range?.[0] ?? 0) : 0
}

function offsetAt(document: Document, path: Path): number | undefined {
  const key = path.at(-1)
  const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  const pair = isMap(parent)
    ? parent.items.find(item => isScalar(item.key) && item.key.value === key)
    : undefined
  if (isNode(pair?.key)) return pair.key.range?.[0]
  const node = document.getIn(path, true)
  return isNode(node) ? node.range?.[0] : undefined
}

const isEmpty = ({ contents }: Document): boolean =>
  contents === null || (isScalar(contents) && contents.value === null)

const firstLine = ({ message }: YAMLError): string => message.split('\n')[0] ?? message

function duplicates(names: readonly string[]): Set<string> {
  const seen = new Set<string>()
  const twice = new Set<string>()
  for (const name of names) {
    if (seen.has(name)) twice.add(name)
    seen.add(name)
  }
  return twice
}
