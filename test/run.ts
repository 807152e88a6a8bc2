// Runs the tests of the named tiers, `node test/run.ts unit netns …`, and counts named tests.
// Each file is a tap program of its own; the last line of stdout is `N passed, N failed[, N skipped]`.
import { spawn } from 'node:child_process'
import { glob } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { relative } from 'node:path'
import { prepareApiServer, prepareKubeTier } from './cluster/binaries.ts'
import { sharedCluster } from './cluster/tier.ts'
import { type TestResult, tally } from './support/tap-tally.ts'

type Tier = {
  readonly jobs: number
  readonly timeoutSeconds: number
  /** What would take longer than a test may. */
  readonly prepare?: () => Promise<void>
  /** What its files share, there before the first and gone after the last. */
  readonly shared?: () => Promise<AsyncDisposable>
}

const PARALLEL: Tier = { jobs: availableParallelism(), timeoutSeconds: 60 }
// These own ports, namespaces or most of the machine.
const ALONE: Tier = { jobs: 1, timeoutSeconds: 480 }
const TIERS: Record<string, Tier> = {
  structure: PARALLEL,
  unit: PARALLEL,
  property: PARALLEL,
  contract: { ...ALONE, prepare: prepareApiServer },
  embedded: ALONE,
  netns: { ...ALONE, prepare: prepareApiServer },
  kube: { ...ALONE, prepare: prepareKubeTier },
  readme: { jobs: 1, timeoutSeconds: 900 },
  browser: ALONE,
  cluster: { jobs: 1, timeoutSeconds: 600, shared: sharedCluster },
  long: { jobs: 1, timeoutSeconds: 4 * 3600 },
}
/** What a file gets beyond its own timeout to clean up before its process group is killed. */
const GRACE_SECONDS = 20

const root = new URL('..', import.meta.url).pathname
const strict = process.env.CI === 'true'
const results: (TestResult & { readonly file: string })[] = []

for (const name of process.argv.slice(2)) {
  const tier = TIERS[name]
  if (!tier) fail(`unknown tier ${name}: one of ${Object.keys(TIERS).join(' ')}`)
  const files = (await Array.fromAsync(glob(`test/${name}/**/*.test.ts`, { cwd: root }))).sort()
  console.log(`\n== ${name}: ${files.length === 0 ? 'no tests yet' : `${files.length} files`}`)
  await tier.prepare?.()
  await using _ = await tier.shared?.()
  await inParallel(files, tier.jobs, file => runFile(file, tier))
}
if (process.argv.length < 3) fail(`usage: node test/run.ts TIER…: ${Object.keys(TIERS).join(' ')}`)
summarize()

async function runFile(file: string, { jobs, timeoutSeconds }: Tier): Promise<void> {
  const started = performance.now()
  const lines: string[] = []
  // A file that runs alone is shown live; others as a block when they end.
  const say = (line: string) => (jobs === 1 ? console.log(line) : lines.push(line))
  say(`\n${file}`)
  const { counter, finished } = start(file, timeoutSeconds, say)
  const exit = await finished
  await counter.end(exit)
  say(`  (${((performance.now() - started) / 1000).toFixed(1)} s)`)
  if (lines.length > 0) console.log(lines.join('\n'))
}

function start(file: string, timeoutSeconds: number, say: (line: string) => void) {
  const counter = tally(
    relative('test', file),
    result => {
      results.push({ ...result, file })
      for (const line of show(result)) say(line)
    },
    text => say(`    | ${text.trimEnd()}`),
  )
  const child = spawn(process.execPath, [file], {
    cwd: root,
    env: { ...process.env, TAP_TIMEOUT: String(timeoutSeconds) },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  // A file's stderr (program logs) is shown with it, so that parallel files do not mix.
  child.stderr.on('data', chunk => say(indent(String(chunk).trimEnd(), '    ! ')))
  child.stdout.on('data', counter.write)
  const killGroup = () => {
    if (child.pid === undefined) return
    say(`  killed: not finished ${GRACE_SECONDS} s after its timeout of ${timeoutSeconds} s`)
    process.kill(-child.pid, 'SIGKILL')
  }
  const timer = setTimeout(killGroup, (timeoutSeconds + GRACE_SECONDS) * 1000)
  const forward = (signal: NodeJS.Signals) => child.kill(signal)
  process.on('SIGINT', forward).on('SIGTERM', forward)
  const { promise: finished, resolve } = Promise.withResolvers<{
    code: number | null
    signal: string | null
  }>()
  child.on('close', (code, signal) => {
    clearTimeout(timer)
    process.off('SIGINT', forward).off('SIGTERM', forward)
    resolve({ code, signal })
  })
  return { counter, finished }
}

function* show({ outcome, path, milliseconds, reason, failures }: TestResult): Generator<string> {
  const mark = { passed: '✓', failed: '✗', skipped: '–' }[outcome]
  const note = outcome === 'skipped' ? `skipped: ${reason}` : `${Math.round(milliseconds)} ms`
  yield `  ${mark} ${path.join(' › ')} (${note})`
  if (outcome === 'failed') for (const failure of failures) yield indent(failure, '      ')
}

function summarize(): void {
  const of = (outcome: TestResult['outcome']) => results.filter(result => result.outcome === outcome)
  const [passed, failed, skipped] = [of('passed'), of('failed'), of('skipped')]
  for (const { file, path, reason } of skipped)
    console.log(`\nSKIPPED ${file}: ${path.join(' › ')}\n  ${reason}`)
  for (const { file, path, failures } of failed)
    console.log(`\nFAILED ${file}: ${path.join(' › ')}\n${indent(failures.join('\n'), '  ')}`)
  if (strict && skipped.length > 0) console.log('\nCI=true: skipped tests count as failed')
  const failures = failed.length + (strict ? skipped.length : 0)
  const rest = !strict && skipped.length > 0 ? `, ${skipped.length} skipped` : ''
  console.log(`\n${passed.length} passed, ${failures} failed${rest}`)
  process.exitCode = failures > 0 ? 1 : 0
}

async function inParallel<T>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values()
  const worker = async () => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: width }, worker))
}

function indent(text: string, by: string): string {
  return text.replaceAll(/^/gm, by)
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}
