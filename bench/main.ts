// `npm run bench`: measures Postern and its peers in one run on one machine, and prints what Postern reached.
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildBundles } from '../deploy/build.ts'
import { createNetwork } from '../test/support/netns.ts'
import { requireCommands, requireNetns } from '../test/support/requirements.ts'
import { EXPERIMENTS } from './experiments.ts'
import { raiseFileLimit } from './file-limit.ts'
import { describeMachine } from './machine.ts'
import { removeGroups } from './memory-group.ts'
import { type Mesh, startMesh } from './mesh.ts'
import { type Options, parseOptions, USAGE } from './options.ts'
import { report } from './report.ts'
import type { Result } from './results.ts'
import { type Outcome, runAll } from './run.ts'
import { createPlace } from './stage.ts'
import { SUBJECTS } from './subject.ts'
import { isBroken, judge, type Verdict } from './targets.ts'

/** Memory, where the machine has it: the logs and files of a run are to cost no disk's time. */
const SCRATCH = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

const RESULTS = fileURLToPath(new URL('results/', import.meta.url))

async function measureAll(options: Options): Promise<Outcome> {
  await using stack = new AsyncDisposableStack()
  removeGroups()
  stack.defer(removeGroups)
  const directory = await mkdtemp(join(SCRATCH, 'postern-bench-'))
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  await buildBundles(join(directory, 'dist'))
  const bundles = {
    proxy: resolve(options.proxy ?? join(directory, 'dist', 'proxy.mjs')),
    injector: join(directory, 'dist', 'injector.mjs'),
  }
  const network = stack.use(await createNetwork())
  const place = await createPlace(network, 'peers', directory)
  let mesh: Promise<Mesh> | undefined
  stack.defer(async () => (await mesh)?.[Symbol.asyncDispose]())
  return await runAll(options, {
    network,
    place,
    mesh: () => {
      mesh ??= startMesh(network, directory, bundles)
      return mesh
    },
    directory,
    say: text => console.error(text),
  })
}

/** A target that a whole run did not measure is no better than one that it missed. */
function brokenFloors({ subjects, experiments }: Options, results: readonly Result[]): string[] {
  const isWhole = subjects.length === SUBJECTS.length && experiments === undefined
  const verdicts = judge(results)
  const broken = verdicts.filter(isBroken)
  const unknown = isWhole ? verdicts.filter(({ verdict }) => verdict === 'not measured') : []
  const line =
    (what: string) =>
    ({ target: { title, against } }: Verdict) =>
      `${what}: ${title}${against ? `, against ${against}` : ''}`
  return [...broken.map(line('MORE THAN A FIFTH BEHIND')), ...unknown.map(line('NOT MEASURED'))]
}

async function main(options: Options): Promise<number> {
  const lacking = requireNetns() || requireCommands('nginx', 'wrk', 'h2load', 'curl', 'ss')
  if (lacking) throw new Error(`${lacking} (Debian: nginx-light wrk nghttp2-client curl iproute2 nftables)`)
  raiseFileLimit()
  const machine = describeMachine()
  const outcome = await measureAll(options)
  const { results, failures } = outcome
  const text = `${report(machine, outcome)}\n`
  const json = `${JSON.stringify(results, null, 1)}\n`
  console.log(text)
  if (options.json) await writeFile(options.json, json)
  if (options.keep) {
    await mkdir(RESULTS, { recursive: true })
    await writeFile(`${RESULTS}${options.keep}.json`, json)
    await writeFile(`${RESULTS}${options.keep}.md`, text)
  }
  const broken = options.check ? brokenFloors(options, results) : []
  for (const line of broken) console.error(line)
  return failures.length + broken.length > 0 ? 1 : 0
}

function parsed(argv: readonly string[]): Options | undefined {
  const names = EXPERIMENTS.map(({ name }) => name)
  try {
    return parseOptions(argv, names)
  } catch (thrown) {
    console.error(`${thrown instanceof Error ? thrown.message : thrown}\n${USAGE}`)
    return undefined
  }
}

const options = parsed(process.argv.slice(2))
process.exitCode = options ? await main(options) : 2
