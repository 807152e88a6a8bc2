// What stands on the wire: tcpdump at the node's end of pods' interfaces, where every byte that enters or leaves them
// passes. Searching its file needs no parser: a canary is either in there or not.
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { findCommand } from '../support/requirements.ts'
import type { Cluster } from './cluster.ts'
import { eventually } from './pods.ts'
import { startInside, stopInside } from './sandbox.ts'

export type Captured = {
  readonly bytes: number
  readonly packets: number
  /** Occurrences of `text` in what was captured, whole packets with their headers. */
  count(text: string): number
}

/** Captures at the interfaces of the pods with these addresses while `during` runs. */
export async function capture(
  cluster: Cluster,
  podIps: readonly string[],
  during: () => Promise<unknown>,
): Promise<Captured> {
  const dumps = await Promise.all(podIps.map(ip => startDump(cluster, ip)))
  try {
    await during()
  } finally {
    for (const { stop } of dumps) await stop()
  }
  const files = await Promise.all(dumps.map(({ file }) => readFile(file)))
  const logs = await Promise.all(dumps.map(({ log }) => readFile(log, 'utf8')))
  for (const { file, log } of dumps) for (const path of [file, log]) await rm(path)
  const seen = (what: string) =>
    logs.map(log => Number(new RegExp(`^(\\d+) packets? ${what}`, 'm').exec(log)?.[1]))
  const packets = seen('captured')
  if (sum(seen('dropped by kernel')) !== 0 || sum(packets) !== sum(seen('received by filter')))
    throw new Error(`a capture that lost packets proves nothing: ${logs.join('\n')}`)
  return {
    bytes: sum(files.map(file => file.length)),
    packets: sum(packets),
    count: text => sum(files.map(file => occurrences(file, Buffer.from(text)))),
  }
}

async function startDump({ sandbox, onNode }: Cluster, ip: string) {
  const { stdout } = await onNode('ip', '-json', 'route', 'get', ip)
  const [{ dev }] = JSON.parse(stdout) as [{ dev: string }]
  const name = `tcpdump-${dev}`
  const file = join(sandbox.directory, `${name}.pcap`)
  const log = join(sandbox.directory, `${name}.log`)
  const tcpdump = findCommand('tcpdump')
  if (!tcpdump) throw new Error('tcpdump is not installed')
  const options = [
    '-i',
    dev,
    '-n',
    '-U',
    '-s',
    '0',
    '--immediate-mode',
    '-B',
    '16384',
    '-Z',
    'root',
    '-w',
    file,
  ]
  startInside(sandbox, name, tcpdump, options)
  await eventually(async () => /listening on/.test(await readFile(log, 'utf8')), `tcpdump on ${dev}`)
  return { file, log, stop: () => stopInside(sandbox, name) }
}

function occurrences(haystack: Buffer, needle: Buffer): number {
  let count = 0
  for (let at = haystack.indexOf(needle); at !== -1; at = haystack.indexOf(needle, at + 1)) count += 1
  return count
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
