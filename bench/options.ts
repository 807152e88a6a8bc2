// The command line, parsed to one value.
import { parseArgs } from 'node:util'
import { SUBJECTS, type SubjectName } from './subject.ts'

export type Options = {
  /** `quick` measures what the targets need, `ci` that with less of everything. */
  readonly effort: 'full' | 'quick' | 'ci'
  readonly repeats: number
  readonly subjects: readonly SubjectName[]
  /** Names of experiments; all where absent. */
  readonly experiments?: readonly string[]
  /** Exit 1 when a floor, or what is held of it, is missed by more than a fifth. */
  readonly check: boolean
  readonly json?: string
  /** Names files in bench/results: the JSON, and the report with the machine described. */
  readonly keep?: string
  /** A sidecar's bundle to measure instead of this tree's. */
  readonly proxy?: string
}

export const USAGE = `usage: npm run bench -- [options]
  --quick              what the targets need, in at most six minutes
  --ci                 the same in at most three, with --check
  --repeats N          interleaved rounds (5; 3 with --quick, 2 with --ci)
  --only NAME,…        subjects: ${SUBJECTS.join(' ')}
  --measure NAME,…     experiments, such as keep-alive-32 (an unknown one names them all)
  --check              exit 1 when a floor, or what is held of it, is missed by more than a fifth
  --json FILE          [{subject, measure, value, unit, spread}]
  --keep NAME          bench/results/NAME.json and NAME.md, the report with the machine described
  --proxy FILE         measure this bundle of the sidecar`

const REPEATS = { full: 5, quick: 3, ci: 2 } as const

/** @throws Error with what is wrong. */
export function parseOptions(argv: readonly string[], experiments: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean' },
      ci: { type: 'boolean' },
      check: { type: 'boolean' },
      repeats: { type: 'string' },
      only: { type: 'string' },
      measure: { type: 'string' },
      json: { type: 'string' },
      keep: { type: 'string' },
      proxy: { type: 'string' },
    },
  })
  const { json, keep, proxy, ci = false, quick = false, check = ci } = values
  const effort = ci ? 'ci' : quick ? 'quick' : 'full'
  const repeats = Number(values.repeats ?? REPEATS[effort])
  if (!Number.isInteger(repeats) || repeats < 1) throw new Error('--repeats must be a number of at least 1')
  const subjects = values.only === undefined ? SUBJECTS : known(values.only, SUBJECTS, '--only')
  return {
    effort,
    repeats,
    subjects,
    check,
    ...(values.measure !== undefined && { experiments: known(values.measure, experiments, '--measure') }),
    ...(json !== undefined && { json }),
    ...(keep !== undefined && { keep }),
    ...(proxy !== undefined && { proxy }),
  }
}

function known<T extends string>(list: string, names: readonly T[], option: string): T[] {
  return list.split(',').map(wanted => {
    const found = names.find(name => name === wanted)
    if (found === undefined) throw new Error(`${option}: ${wanted} is none of ${names.join(' ')}`)
    return found
  })
}
