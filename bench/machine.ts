// The machine in a few words: without them no figure can be compared with another day's.
import { execFileSync } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'

export function describeMachine(): string {
  const [first] = cpus()
  const memory = Math.round(totalmem() / 2 ** 30)
  const version = (command: string, args: readonly string[], line: RegExp) => {
    try {
      const output = execFileSync(command, [...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
      return line.exec(output)?.[1]
    } catch {
      return undefined
    }
  }
  const haproxy = version('haproxy', ['-v'], /version (\S+)/)
  const commit = version('git', ['rev-parse', '--short', 'HEAD'], /^(\w+)/)
  const parts = [
    `${cpus().length} × ${first?.model.trim() ?? 'unknown processor'}`,
    `${memory} GiB`,
    `Linux ${release()}`,
    `Node ${process.versions.node}`,
    ...(haproxy ? [`HAProxy ${haproxy}`] : []),
    ...(commit ? [`commit ${commit}`] : []),
    `load before ${loadavg()[0]?.toFixed(1)}`,
  ]
  return parts.join(', ')
}
