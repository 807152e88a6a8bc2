// `npm run demo`: the whole of Postern on one machine, without a cluster, root or network. `--once` plays every scene and
// ends; otherwise the stage stays up. `--without policy` and `--without approver` show that the scenes notice.
import { parseArgs } from 'node:util'
import { SCENES } from './scenes.ts'
import { REMOVABLE, type Removable, type Stage, setStage } from './stage.ts'

const USAGE = `usage: npm run demo -- [--once] [--without ${REMOVABLE.join('|')}]`

function options(): { once: boolean; without: Set<Removable> } {
  const { values } = parseArgs({
    options: {
      once: { type: 'boolean', default: false },
      without: { type: 'string', multiple: true, default: [] },
    },
  })
  const isRemovable = (name: string): name is Removable => REMOVABLE.some(known => known === name)
  const unknown = values.without.find(name => !isRemovable(name))
  if (unknown !== undefined) throw new Error(`--without ${unknown} is unknown\n${USAGE}`)
  return { once: values.once, without: new Set(values.without.filter(isRemovable)) }
}

async function play(stage: Stage): Promise<number> {
  let failed = 0
  for (const [index, { title, play }] of SCENES.entries()) {
    const scene = `scene ${index + 1} ${title}:`
    try {
      console.log(scene, await play(stage))
    } catch (thrown) {
      failed += 1
      console.log(scene, 'FAILED:', thrown instanceof Error ? thrown.message : thrown)
    }
  }
  console.log(
    failed === 0 ? `demo: ${SCENES.length} scenes ok` : `demo: ${failed} of ${SCENES.length} scenes failed`,
  )
  return failed
}

function explain({ urls, cluster, orders }: Stage): void {
  console.log(`
The stage stays up; end it with Ctrl-C. Try, in another terminal:
  curl ${urls.web}/hello        # web calls orders: captured, tunnelled, allowed
  curl ${urls.stranger}/hello        # the stranger calls orders: refused
  curl ${urls.plaintext}/hello       # plaintext to orders: refused while the mode is STRICT
  curl http://127.1.0.3:15020/metrics    # what the sidecar of orders counted
  curl -H 'authorization: Bearer ${cluster.access.adminToken}' ${cluster.url}/api/v1/namespaces/shop/configmaps/orders
Sidecars log one line per connection; the last of orders:
  ${JSON.stringify(orders.lines.findLast(({ msg }) => msg === 'connection'))}`)
}

async function main(): Promise<number> {
  const { once, without } = options()
  await using stage = await setStage(without)
  const failed = await play(stage)
  if (!once) {
    explain(stage)
    await new Promise(resolve => process.once('SIGINT', resolve).once('SIGTERM', resolve))
  }
  return failed === 0 ? 0 : 1
}

/** What a reader can do about the commonest failures to start. */
const HINTS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is another demo still running?',
  EADDRNOTAVAIL: 'the demo uses 127.1.0.1 to 127.1.0.4, which Linux has and other systems must be given',
}

process.exitCode = await main().catch((error: NodeJS.ErrnoException) => {
  const hint = HINTS[error.code ?? '']
  console.error(`demo: ${error.message}${hint ? ` (${hint})` : ''}`)
  return 1
})
