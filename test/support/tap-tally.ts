// Turns one test file's TAP stream into results that a person counts: one per named test, not per assertion.
// tap-parser is the parser that tap itself brings.
import { Parser, type Result } from 'tap-parser'

export type TestResult = {
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** Names from the outermost to the innermost test. */
  readonly path: readonly string[]
  readonly milliseconds: number
  /** Why it was skipped. */
  readonly reason?: string
  /** One text per failed assertion. */
  readonly failures: readonly string[]
}

export type Tally = {
  write(chunk: Buffer | string): void
  /** To call after the process has ended: reports what the stream alone cannot tell. */
  end(exit: { readonly code: number | null; readonly signal: string | null }): Promise<void>
}

type Node = { readonly path: readonly string[]; named: number; failed: number; readonly failures: string[] }

/** `onResult` is called once per named test, `onText` for lines that are not TAP and for a test's own comments. */
export function tally(
  file: string,
  onResult: (result: TestResult) => void,
  onText: (line: string) => void,
): Tally {
  const root = nodeAt([])
  const { promise: complete, resolve } = Promise.withResolvers<string | undefined>()
  const parser = new Parser(results =>
    resolve(results.plan.skipAll ? results.plan.skipReason.replace(/^SKIP:?\s*/i, '') : undefined),
  )
  parser.on('extra', onText)
  parser.on('bailout', (reason: string) => root.failures.push(`bailed out: ${reason}`))
  follow(parser, root, onResult, onText)

  return {
    write: chunk => {
      parser.write(chunk)
    },
    end: async ({ code, signal }) => {
      parser.end()
      const skipped = await complete
      const path = [file]
      if (skipped !== undefined && code === 0) {
        onResult({ outcome: 'skipped', path, milliseconds: 0, reason: skipped, failures: [] })
        return
      }
      if (root.named === 0) root.failures.push('the file has no named test')
      if (code !== 0) root.failures.push(`ended with ${signal ?? `exit code ${code}`}`)
      if (root.failures.length > 0 && root.failed === 0)
        onResult({ outcome: 'failed', path, milliseconds: 0, failures: root.failures })
    },
  }
}

function follow(
  parser: Parser,
  node: Node,
  onResult: (result: TestResult) => void,
  onText: (line: string) => void,
): void {
  let open: Node | undefined
  parser.on('comment', (comment: string) => {
    if (!BOOKKEEPING.test(comment)) onText(comment.replace(/^\s*# /, ''))
  })
  parser.on('child', (child: Parser) => {
    open = nodeAt([...node.path, child.name])
    follow(child, open, onResult, onText)
  })
  // The first assertion after a child is the child's own result.
  parser.on('assert', (result: Result) => {
    const child = open ?? (isDirective(result) ? nodeAt([...node.path, result.name]) : undefined)
    open = undefined
    if (child) close(child, node, result, onResult)
    else if (!result.ok) node.failures.push(describe(result))
  })
}

/** Comments that tap itself writes. */
const BOOKKEEPING = /^\s*# (?:Subtest: |time=|\{ total: )/

/** A test has ended: innermost ones are counted, and groups that failed by an assertion of their own. */
function close(child: Node, parent: Node, result: Result, onResult: (result: TestResult) => void): void {
  const outcome = outcomeOf(result)
  if (child.named === 0 || (outcome === 'failed' && child.failed === 0)) {
    child.named++
    if (outcome === 'failed') {
      child.failed++
      if (child.failures.length === 0) child.failures.push(describe(result))
    }
    const reason = result.skip || result.todo
    onResult({
      outcome,
      path: child.path,
      milliseconds: result.time ?? 0,
      failures: child.failures,
      ...(reason && { reason: reason === true ? 'no reason given' : reason }),
    })
  }
  parent.named += child.named
  parent.failed += child.failed
}

const nodeAt = (path: readonly string[]): Node => ({ path, named: 0, failed: 0, failures: [] })

const isDirective = ({ skip, todo }: Result): boolean => Boolean(skip) || Boolean(todo)

function outcomeOf(result: Result): TestResult['outcome'] {
  if (isDirective(result)) return 'skipped'
  return result.ok ? 'passed' : 'failed'
}

/** An assertion's diagnostics in the order in which a reader wants them. */
function describe({ name, diag }: Result): string {
  if (typeof diag !== 'object' || diag === null) return name
  const { diff, message, stack, at, found, wanted, ...rest } = diag as Record<string, unknown>
  const { fileName, lineNumber } = (at ?? {}) as { fileName?: string; lineNumber?: number }
  const lines = [fileName ? `${name} (${fileName}:${lineNumber})` : name]
  if (message) lines.push(String(message))
  if (diff) lines.push(String(diff))
  else if (wanted !== undefined || found !== undefined)
    lines.push(`wanted: ${JSON.stringify(wanted)}`, `found: ${JSON.stringify(found)}`)
  for (const key of ['code', 'error', 'cause', 'signal', 'exitCode', 'timeout', 'expired'])
    if (rest[key] !== undefined) lines.push(`${key}: ${JSON.stringify(rest[key])}`)
  if (stack) lines.push(String(stack).trimEnd())
  return lines.join('\n')
}
