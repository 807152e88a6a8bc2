// `npm run cluster -- up|down|status [NAME]`: the cluster of the cluster tests, for people.
import { attach, CLUSTER_NAME, clusterDirectory, down, status, up } from './cluster.ts'

const [command, name = CLUSTER_NAME] = process.argv.slice(2)

switch (command) {
  case 'up': {
    using cluster = await up(name)
    console.log(`up: export KUBECONFIG=${cluster.directory}/admin.kubeconfig`)
    break
  }
  case 'down':
    await down(name)
    console.log('down')
    break
  case 'status': {
    using cluster = await attach(name)
    if (!cluster) console.log(`not up (${clusterDirectory(name)})`)
    else
      for (const [program, runs] of Object.entries(await status(cluster)))
        console.log(`${program.padEnd(24)} ${runs ? 'running' : 'ended'}`)
    process.exitCode = cluster ? 0 : 1
    break
  }
  default:
    console.error('usage: npm run cluster -- up|down|status [NAME]')
    process.exitCode = 2
}
