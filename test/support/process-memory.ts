// What a process alone holds: pages shared with others (the binary of Node) count for nobody.
import { readFile } from 'node:fs/promises'

export type Memory = { readonly privateBytes: number; readonly rssBytes: number }

export async function memoryOf(pid: number): Promise<Memory> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')
  const bytes = (field: string) => Number(new RegExp(`^${field}: +(\\d+) kB$`, 'm').exec(rollup)?.[1]) * 1024
  return {
    privateBytes: bytes('Private_Clean') + bytes('Private_Dirty'),
    rssBytes: bytes('Rss'),
  }
}

export const inMiB = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MiB`
