// What an outage costs two applications that never stop talking: every connection dialled is kept with its time and
// answer, and held against the time until which both sidecars had a certificate.
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import type { LogLine, RunningPod } from './namespace-kubelet.ts'
import type { Agent } from './netns-client.ts'

export type Dialled = { readonly from: number; readonly to: number; readonly error?: string }

export type Traffic = {
  readonly dialled: readonly Dialled[]
  stop(): Promise<void>
}

const PAUSE_MS = 10

/** One new connection after another, each answered before the next is dialled. */
export function dialOn(agent: Agent, host: string, port: number): Traffic {
  const dialled: Dialled[] = []
  let stopped = false
  const run = async () => {
    while (!stopped) {
      const from = Date.now()
      const answer = await agent.dial({ host, port })
      dialled.push({ from, to: Date.now(), ...(typeof answer === 'string' && { error: answer }) })
      await delay(PAUSE_MS)
    }
  }
  const done = run()
  const stop = () => {
    stopped = true
    return done
  }
  return { dialled, stop }
}

const isIssued = ({ msg }: LogLine) => msg === 'certificate issued'

/** When the certificate expires that the sidecar took last. */
export const expiryOf = ({ lines }: RunningPod): number =>
  Date.parse(String(lines.findLast(isIssued)?.notAfter))

/** Asked again until it stands: what was signed just before an outage reaches a sidecar just after its beginning. */
export async function untilAllExpired(pods: readonly RunningPod[], marginMs: number): Promise<void> {
  for (;;) {
    const left = Math.max(...pods.map(expiryOf)) + marginMs - Date.now()
    if (left <= 0) return
    await delay(left)
  }
}

export const issuedSince = ({ lines }: RunningPod, since: number): readonly LogLine[] =>
  lines.filter(line => isIssued(line) && Date.parse(String(line.time)) > since)

/** Codes of refused connections in a sidecar's log between the two times. */
export const codesBetween = ({ lines }: RunningPod, from: number, to: number): Set<unknown> =>
  new Set(
    lines
      .filter(({ msg, outcome, time }) => {
        const at = Date.parse(String(time))
        return msg === 'connection' && outcome === 'refused' && at > from && at < to
      })
      .map(({ code }) => code),
  )

/** Waits until the traffic passes again for a second on end; when it did for the first time. */
export async function untilHealed({ dialled }: Traffic, since: number, patienceMs: number): Promise<number> {
  const end = Date.now() + patienceMs
  while (Date.now() < end) {
    const lastError = dialled.findLast(({ error }) => error !== undefined)
    const healed = dialled.find(({ from, error }) => error === undefined && from >= (lastError?.to ?? since))
    if (healed && Date.now() - healed.from > 1_000) return healed.to
    await delay(50)
  }
  throw new Error(`not healed within ${patienceMs} ms: ${JSON.stringify(dialled.slice(-3))}`)
}

/** Nothing failed while both certificates were valid; nothing passed once either was not. */
export function judge(t: Test, { dialled }: Traffic, expiry: number, back: number): void {
  const before = dialled.filter(({ to }) => to < expiry)
  const after = dialled.filter(({ from, to }) => from > expiry && to < back)
  t.ok(before.length > 50, `${before.length} connections while the certificates were valid`)
  t.same(
    before.filter(({ error }) => error !== undefined),
    [],
    'none of them failed',
  )
  t.ok(after.length > 5, `${after.length} connections after they had expired`)
  t.same(
    after.filter(({ error }) => error === undefined),
    [],
    'all of them were refused',
  )
}
