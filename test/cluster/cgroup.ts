// The control group under which the kubelet keeps its pods: the cluster's own, so that it can be removed with it.
import { access, mkdir, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const MOUNT = '/sys/fs/cgroup'
const CONTROLLERS = '+cpuset +cpu +memory +pids'

export const cgroupOf = (name: string): string => `/postern-${name}`

export async function createCgroup(name: string): Promise<void> {
  for (const hierarchy of await hierarchies())
    await mkdir(join(hierarchy, cgroupOf(name)), { recursive: true })
  if (!(await isUnified())) return
  for (const directory of [MOUNT, join(MOUNT, cgroupOf(name))])
    await writeFile(join(directory, 'cgroup.subtree_control'), CONTROLLERS)
}

export async function removeCgroup(name: string): Promise<void> {
  for (const hierarchy of await hierarchies()) await removeTree(join(hierarchy, cgroupOf(name)))
}

const isUnified = () =>
  access(join(MOUNT, 'cgroup.controllers')).then(
    () => true,
    () => false,
  )

/** One for version 2; for version 1 one for each set of controllers. */
async function hierarchies(): Promise<string[]> {
  if (await isUnified()) return [MOUNT]
  const entries = await readdir(MOUNT, { withFileTypes: true })
  return entries.filter(entry => entry.isDirectory()).map(({ name }) => join(MOUNT, name))
}

/** A group's files go with it: only directories are removed, innermost first. */
async function removeTree(directory: string): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => undefined)
  if (!entries) return
  for (const entry of entries) if (entry.isDirectory()) await removeTree(join(directory, entry.name))
  await rmdir(directory)
}
