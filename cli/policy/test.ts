// `postern policy test`: what policies in files let in and keep out, held against what their author expects. For CI.
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { bind } from '../../shared/policy/bind.ts'
import { compile } from '../../shared/policy/compile.ts'
import { describeProblem, type PolicyProblem } from '../../shared/policy/document.ts'
import { parseConfigMap } from '../../shared/policy/yaml-documents.ts'
import { type Command, UsageError } from '../command.ts'
import { type Case, type Suite, suites } from './cases.ts'
import { decide, type Verdict } from './decide.ts'
import { readPolicyFiles } from './files.ts'

export type Result = Pick<Case, 'name' | 'expect'> & {
  readonly file: string
  readonly passed: boolean
  readonly verdict: Verdict
}

export const policyTest: Command = {
  name: 'policy test',
  usage: '<file>…',
  summary:
    'Decides on requests by policies in files, and compares. 1: one is decided otherwise than expected.',
  run: async ({ args, out }) => {
    if (args.length === 0) throw new UsageError('name at least one file of tests')
    const ran = await Promise.all(args.map(testFile))
    const results = ran.flatMap(({ results }) => results)
    const problems = ran.flatMap(({ problems }) => problems)
    const failed = results.filter(({ passed }) => !passed).length
    if (out.json) out.document({ results, problems })
    else {
      for (const problem of problems) out.line(describeProblem(problem))
      for (const result of results) out.line(shown(result))
      out.line(`${results.length - failed} passed, ${failed} failed`)
    }
    return failed > 0 || problems.length > 0 ? 1 : 0
  },
}

type Ran = { readonly results: readonly Result[]; readonly problems: readonly PolicyProblem[] }

async function testFile(file: string): Promise<Ran> {
  const read = parseConfigMap({ data: { [file]: await contentOf(file) } }, suites)
  if (read.kind === 'invalid') return { results: [], problems: read.problems }
  const ran = await Promise.all(read.documents.map(suite => testSuite(suite, file)))
  return { results: ran.flatMap(({ results }) => results), problems: ran.flatMap(({ problems }) => problems) }
}

async function testSuite(suite: Suite, file: string): Promise<Ran> {
  const { policies, namespace, labels, trustDomain, defaultAction, mode, cases } = suite
  const paths = policies.map(path => join(dirname(file), path))
  const { documents, problems } = await readPolicyFiles(paths, namespace)
  if (problems.length > 0) return { results: [], problems }
  const context = { systemNamespace: SYSTEM_NAMESPACE, meshMode: mode, defaultAction }
  const compiled = compile(bind(documents, { namespace, labels }, context), { trustDomain })
  const results = cases.map(one => {
    const verdict = decide(compiled, one)
    const asExpected = verdict.allow === (one.expect === 'allow')
    const passed = asExpected && (one.by === undefined || one.by === verdict.policy)
    return { file, name: one.name, expect: one.expect, passed, verdict }
  })
  return { results, problems: [] }
}

async function contentOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (thrown) {
    throw new UsageError(thrown instanceof Error ? thrown.message : String(thrown))
  }
}

function shown({ name, expect, passed, verdict }: Result): string {
  const decided = verdict.allow ? 'allowed' : `denied with ${verdict.code}`
  const by = verdict.policy
    ? ` by ${verdict.policy}${verdict.rule === undefined ? '' : `, rule ${verdict.rule}`}`
    : ''
  const why = verdict.reason ? `: ${verdict.reason}` : ''
  return passed
    ? `ok    ${name}: ${decided}${by}`
    : `FAIL  ${name}: expected ${expect}, but ${decided}${by}${why}`
}
