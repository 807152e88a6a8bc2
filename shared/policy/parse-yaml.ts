// YAML text to documents at a cost that its author cannot choose: the library takes a microsecond and more for each token and
// several for each error, aliases repeat what they stand for, and the injector does nothing else meanwhile. So tokens are
// counted before they are parsed, and what aliases expand to before it is read.
import { Composer, type Document, Lexer, type LineCounter, Parser } from 'yaml'
import { isMapping } from './reader.ts'

/** What may still be spent, by all files of a ConfigMap together. */
export type Budget = {
  tokens: number
  /** Characters and values with every alias written out. */
  expanded: number
}

/** 256 KiB of ordinary rules have 90,000, of rules that are written as tightly as flow style allows 180,000. */
export const MAX_TOKENS = 200_000
/** Of one file. The shortest that says something has a hundred characters. */
const MAX_DOCUMENTS = 5_000
/** Of all files together. Without aliases a text expands to no more than its own length. */
export const MAX_LENGTH = 256 * 1024

export const newBudget = (): Budget => ({ tokens: MAX_TOKENS, expanded: MAX_LENGTH })

type Flaw = { readonly offset: number; readonly reason: string; readonly hint: string }

const YAML_HINT = 'see https://yaml.org/spec/1.2.2'
const SPREAD_HINT = 'spread it over several ConfigMaps'

// uniqueKeys compares each key with each other one: whoever reads the documents does it in one pass.
const OPTIONS = { prettyErrors: false, stringKeys: true, uniqueKeys: false } as const

/** Documents have errors of their own. Parsing ends after so many of the text's. */
export function parseYaml(
  text: string,
  lines: LineCounter,
  budget: Budget,
  maxErrors: number,
): readonly Document[] | Flaw {
  const { stackTraceLimit } = Error
  // The library makes an Error of each mistake: their stacks would cost more than all else.
  Error.stackTraceLimit = 0
  try {
    return compose(text, lines, budget, maxErrors)
  } catch (thrown) {
    // Nesting deeper than the stack.
    const message = thrown instanceof Error ? thrown.message : String(thrown)
    return { offset: 0, reason: `is not YAML: ${message}`, hint: YAML_HINT }
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

function compose(
  text: string,
  lines: LineCounter,
  budget: Budget,
  maxErrors: number,
): readonly Document[] | Flaw {
  lines.addNewLine(0)
  const parser = new Parser(lines.addNewLine)
  const composer = new Composer(OPTIONS)
  const documents: Document[] = []
  let [offset, errors] = [0, 0]
  const feed = (tokens: Iterable<CstToken>) => {
    for (const token of tokens) {
      if (token.type === 'error') errors += 1
      documents.push(...composer.next(token))
    }
  }
  for (const lexeme of new Lexer().lex(text)) {
    budget.tokens -= 1
    if (budget.tokens < 0) {
      const reason = `has more than ${MAX_TOKENS} keys, values, brackets and the like by here, with the files before it`
      return { offset, reason, hint: SPREAD_HINT }
    }
    offset += lexeme.length
    feed(parser.next(lexeme))
    if (errors > maxErrors) break
    if (documents.length > MAX_DOCUMENTS)
      return { offset, reason: `has more than ${MAX_DOCUMENTS} documents`, hint: SPREAD_HINT }
  }
  feed(parser.end())
  return [...documents, ...composer.end()]
}

type CstToken = Parameters<Composer['next']>[0]

/** Whether the value, with every alias written out, is within the budget; what it takes of it is spent. */
export function affords(budget: Budget, value: unknown): boolean {
  budget.expanded -= 1 + (typeof value === 'string' ? value.length : 0)
  if (budget.expanded < 0) return false
  if (Array.isArray(value)) return value.every(item => affords(budget, item))
  if (!isMapping(value)) return true
  return Object.entries(value).every(([key, field]) => {
    budget.expanded -= key.length
    return affords(budget, field)
  })
}
