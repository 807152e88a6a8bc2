// The loads that are processes of our own, in the client's namespace.
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { APP_UID } from '../stage.ts'
import type { Running } from '../subject.ts'

const HOLDER = fileURLToPath(new URL('holder.ts', import.meta.url))
const PACER = fileURLToPath(new URL('pacer.ts', import.meta.url))
const PROBER = fileURLToPath(new URL('prober.ts', import.meta.url))
const BULK_STREAMS = 3

/** Opens `count` streams; disposing closes them. */
export async function holdStreams(running: Running, count: number): Promise<AsyncDisposable> {
  const { host, port } = running.address('raw')
  const args = [HOLDER, host, String(port), String(count)]
  const child = running.place.client.spawn(process.execPath, args, {
    uid: APP_UID,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  const said = once(child.stdout ?? child, 'data').then(([chunk]) => String(chunk).trim())
  const first = await Promise.race([said, exited.then(([code]) => `ended with ${code}`)])
  if (first !== `holding ${count}`) throw new Error(`${count} streams could not be held: the holder ${first}`)
  return {
    [Symbol.asyncDispose]: async () => {
      child.stdin?.end()
      await exited
    },
  }
}

/** Microseconds that each request of a fixed rate took, on as many kept connections. */
export function paced(running: Running, rate: number, connections: number, seconds: number) {
  return timesOf(running, PACER, [rate, connections, seconds])
}

/** Microseconds that each of `count` new connections took while long downloads pass through the same proxies. */
export async function probeWhileBusy(running: Running, count: number): Promise<number[]> {
  const bulk = Array.from({ length: BULK_STREAMS }, () => endlessDownload(running))
  try {
    const times = await timesOf(running, PROBER, [count])
    for (const { exitCode } of bulk)
      if (exitCode !== null) throw new Error(`a bulk stream ended with ${exitCode}`)
    return times
  } finally {
    for (const child of bulk) child.kill('SIGKILL')
  }
}

/** What a load prints that is told where the web backend is, and how much to do. */
async function timesOf(running: Running, load: string, numbers: readonly number[]): Promise<number[]> {
  const { host, port } = running.address('web')
  const args = [load, host, ...[port, ...numbers].map(String)]
  return JSON.parse(await running.place.client.check(process.execPath, args, { uid: APP_UID }))
}

/** One connection that fetches the 1 GiB again and again. */
function endlessDownload({ place, address }: Running) {
  const { host, port } = address('web')
  const quiet = ['--silent', '--show-error', '--fail', '--http1.1', '--output', '/dev/null']
  // The number sign repeats the request, as curl globs it; the query is ignored.
  const url = `http://${host}:${port}/1g?[1-100000]`
  return place.client.spawn('curl', [...quiet, url], { uid: APP_UID, stdio: ['ignore', 'ignore', 'inherit'] })
}
