// The working set of a proxy, by which the kubelet counts and evicts: what its cgroup uses less the file pages that nobody
// has read lately. Each proxy gets a group for itself, of cgroup v2 or, where memory is still counted there, of v1.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

type Hierarchy = {
  readonly root: string
  readonly usage: string
  /** Its line in memory.stat. */
  readonly inactive: string
}

const V2: Hierarchy = { root: '/sys/fs/cgroup', usage: 'memory.current', inactive: 'inactive_file' }
const V1: Hierarchy = {
  root: '/sys/fs/cgroup/memory',
  usage: 'memory.usage_in_bytes',
  inactive: 'total_inactive_file',
}
const PREFIX = 'postern-bench-'

/** Undefined where no group that counts memory can be made without changing what others have. */
function hierarchy(): Hierarchy | undefined {
  if (existsSync(join(V1.root, V1.usage))) return V1
  const control = join(V2.root, 'cgroup.subtree_control')
  const counts = existsSync(control) && readFileSync(control, 'utf8').split(/\s/).includes('memory')
  return counts ? V2 : undefined
}

const groupOf = ({ root }: Hierarchy, pid: number): string => join(root, `${PREFIX}${pid}`)

/** Why there are no working sets on this machine; empty where there are. */
export function groupsMissing(): string {
  const found = hierarchy()
  if (!found) return 'no cgroup hierarchy counts memory here'
  const trial = groupOf(found, process.pid)
  try {
    mkdirSync(trial)
    rmdirSync(trial)
    return ''
  } catch (thrown) {
    return `no cgroup can be made: ${thrown instanceof Error ? thrown.message : thrown}`
  }
}

/** Counts what the process and its descendants use from now on. To be called when it has just been started. */
export function ownGroup(pid: number | undefined): void {
  const found = hierarchy()
  if (!found || pid === undefined) return
  try {
    const group = groupOf(found, pid)
    mkdirSync(group)
    writeFileSync(join(group, 'cgroup.procs'), String(pid))
  } catch {
    // groupsMissing says what can then not be measured; an empty group would say that nothing is used.
    removeGroups()
  }
}

/** Bytes, or undefined for a process that has no group of its own. */
export function workingSet(pid: number): number | undefined {
  const found = hierarchy()
  const group = found && groupOf(found, pid)
  if (!group || !existsSync(group)) return undefined
  const read = (file: string) => readFileSync(join(group, file), 'utf8')
  return workingSetOf(read(found.usage), read('memory.stat'), found.inactive)
}

/** Of the texts of the usage and of memory.stat; never below zero, as they are not read at once. */
export function workingSetOf(usage: string, stat: string, inactive: string): number {
  const [, bytes = '0'] = new RegExp(`^${inactive} (\\d+)$`, 'm').exec(stat) ?? []
  return Math.max(0, Number(usage) - Number(bytes))
}

/** Those of processes that have ended, of earlier runs too. */
export function removeGroups(): void {
  const { root } = hierarchy() ?? {}
  if (!root) return
  for (const name of readdirSync(root).filter(name => name.startsWith(PREFIX))) {
    try {
      rmdirSync(join(root, name))
    } catch {
      // In use by another run.
    }
  }
}
