// The order of a run: what needs untouched proxies first, then every experiment on one subject after the other, and all of
// that again in each repeat, so that a slow minute of the machine is nobody's alone.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Network } from '../test/support/netns.ts'
import type { Effort, Experiment, Figure } from './experiment.ts'
import { EXPERIMENTS } from './experiments.ts'
import { groupsMissing } from './memory-group.ts'
import type { Mesh } from './mesh.ts'
import type { Options } from './options.ts'
import { createRecorder, type Result } from './results.ts'
import type { Place } from './stage.ts'
import { Missing, type Running, type Subject, type SubjectName } from './subject.ts'
import { ALL } from './subjects/all.ts'

export type Outcome = {
  /** Each subject that was measured, and its set-up. */
  readonly subjects: readonly string[]
  readonly results: readonly Result[]
  /** What this machine does not have or allow, with the reason. */
  readonly missing: readonly string[]
  /** Experiments that did not come to an end. */
  readonly failures: readonly string[]
}

export type Surroundings = {
  readonly network: Network
  readonly place: Place
  readonly mesh: () => Promise<Mesh>
  readonly directory: string
  readonly say: (text: string) => void
}

const EFFORTS: Readonly<Record<Options['effort'], Effort>> = {
  full: { seconds: 8, probes: 500 },
  quick: { seconds: 3, probes: 200 },
  ci: { seconds: 2, probes: 100 },
}
/** Before the first repeat each load runs once for everybody, uncounted: what compiles or caches at run time has done so. */
const WARM_UP: Effort = { seconds: 1, probes: 20 }

export async function runAll(options: Options, surroundings: Surroundings): Promise<Outcome> {
  const { say } = surroundings
  const effort = EFFORTS[options.effort]
  const recorder = createRecorder()
  const [missing, failures]: [string[], string[]] = [[], []]
  const start = createStarter(surroundings)

  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (thrown) {
      const reason = `${what}: ${thrown instanceof Error ? thrown.message : thrown}`
      const isMissing = thrown instanceof Missing
      ;(isMissing ? missing : failures).push(reason)
      say(`${isMissing ? 'MISSING' : 'FAILED'} ${reason}`)
    }
  }
  const measure = (experiment: Experiment, { name }: Subject, running: Running) =>
    attempt(`${experiment.name} of ${name}`, async () => {
      const figures = await experiment.run(running, effort)
      recorder.record(name, figures)
      if (figures.length > 0) say(`  ${name}: ${figures.map(shown).join(', ')}`)
    })

  const wanted = new Set(
    planOf(
      options,
      options.subjects.map(name => ALL[name]),
    ).flatMap(step => step.subjects),
  )
  const present: Subject[] = []
  // Only a start tells whether the machine has it.
  for (const subject of wanted)
    await attempt(subject.name, async () => {
      await (await start(subject))[Symbol.asyncDispose]()
      present.push(subject)
    })
  const plan = planOf(options, present)
  const lacksGroups = plan.some(({ experiment }) => experiment.fresh) && groupsMissing()
  if (lacksGroups) missing.push(`working set: ${lacksGroups}`)
  for (const { experiment, subjects, title } of plan.filter(({ experiment }) => experiment.fresh)) {
    say(title)
    for (const subject of subjects)
      await attempt(`start of ${subject.name}`, async () => {
        await using running = await start(subject)
        await measure(experiment, subject, running)
      })
  }

  const lasting = plan.filter(({ experiment }) => !experiment.fresh)
  await using stack = new AsyncDisposableStack()
  const running = new Map<Subject, Running>()
  for (const subject of new Set(lasting.flatMap(({ subjects }) => subjects)))
    await attempt(`start of ${subject.name}`, async () => {
      running.set(subject, stack.use(await start(subject)))
    })
  for (const { experiment, subjects, title } of [...warmUp(lasting), ...lasting]) {
    say(title)
    for (const subject of subjects) {
      const started = running.get(subject)
      if (started) await measure(experiment, subject, started)
    }
  }
  const subjects = present.map(({ name, describe }) => `${name}: ${describe()}`)
  return { subjects, results: recorder.results(), missing, failures }
}

type Step = { readonly title: string; readonly experiment: Experiment; readonly subjects: readonly Subject[] }

/** Every experiment of every repeat, with the subjects that it concerns in their order. */
function planOf({ effort, experiments, repeats }: Options, present: readonly Subject[]): Step[] {
  const wanted = EXPERIMENTS.filter(({ name }) => experiments?.includes(name) ?? true)
  const isWhole = effort === 'full' || experiments !== undefined
  const concerns = ({ quick, not }: Experiment, name: SubjectName) =>
    !not?.includes(name) && (isWhole || quick.includes(name))
  return Array.from({ length: repeats }, (_, repeat) =>
    wanted.map(experiment => ({
      title: `repeat ${repeat + 1}: ${experiment.name}`,
      experiment,
      subjects: rotated(present, repeat).filter(({ name }) => concerns(experiment, name)),
    })),
  )
    .flat()
    .filter(({ subjects }) => subjects.length > 0)
}

type Starter = (subject: Subject) => Promise<Running>

/** The steps of one repeat, as experiments that tell nothing. */
function warmUp(lasting: readonly Step[]): Step[] {
  const once = new Map(lasting.map(step => [step.experiment, step]))
  return [...once.values()].map(({ experiment, subjects }) => ({
    title: `warm-up: ${experiment.name}`,
    experiment: {
      ...experiment,
      run: async running => {
        await experiment.run(running, WARM_UP)
        return []
      },
    },
    subjects,
  }))
}

/** Each start has a directory of its own. */
function createStarter({ network, place, mesh, directory }: Surroundings): Starter {
  let starts = 0
  return async subject => {
    const own = join(directory, `${subject.name}-${starts++}`)
    await mkdir(own)
    return subject.start({ network, place, mesh, directory: own })
  }
}

const shown = ({ measure, value, unit }: Figure) => `${measure} ${Number(value.toPrecision(3))} ${unit}`

/** Another subject goes first each time. */
function rotated<T>(items: readonly T[], by: number): T[] {
  const at = items.length === 0 ? 0 : by % items.length
  return [...items.slice(at), ...items.slice(0, at)]
}
