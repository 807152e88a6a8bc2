// A sidecar whose certificate something else makes: the real source over a real directory, an API server that publishes
// trust, and a clock on which each look at the source is one second.
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Credential } from '../../proxy/credentials/credential.ts'
import type { IssuanceEvent } from '../../proxy/credentials/csr-source.ts'
import { offeredCredentials, type Supplier } from '../../proxy/credentials/offered-source.ts'
import { openStateVolume } from '../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../proxy/credentials/trust.ts'
import type { Clock } from '../../shared/clock.ts'
import { parseSpiffeId } from '../../shared/spiffe-id.ts'
import type { TestAuthority } from './certificates.ts'
import { scratchDirectory } from './scratch.ts'
import { scriptedApi } from './scripted-api.ts'
import { steppingClock } from './stepping-clock.ts'

export const IDENTITY = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/cart').id

/** What happens before the look of this number, counted from 1: the first look finds what was there before. */
export type Script = { readonly [look: number]: () => void | Promise<void> }

export async function offeredPod(t: Test, authority: TestAuthority) {
  const api = await scriptedApi({ podUid: '5f2a-11', username: 'system:serviceaccount:shop:cart' })
  t.teardown(() => api[Symbol.asyncDispose]())
  api.trust = { 'trust-domain': 'cluster.local', 'roots.pem': authority.root }
  const directory = scratchDirectory(t)
  const clock = steppingClock()
  const events: IssuanceEvent[] = []

  /** The credentials that a process makes of so many looks; undefined among them: the identity was taken back. */
  const run = async (supplier: Supplier, looks: number, script: Script = {}) => {
    const stopping = new AbortController()
    let look = 1
    const looking: Clock = {
      ...clock,
      sleep: async (ms, signal) => {
        await clock.sleep(ms, signal)
        look += 1
        if (look > looks) stopping.abort()
        else await script[look]?.()
      },
    }
    const volume = openStateVolume(directory, error => t.fail(error.message))
    const source = offeredCredentials(() => supplier, {
      identity: IDENTITY,
      trust: await openTrustStore(api.kube, 'cluster.local', volume),
      volume,
      clock: looking,
      skew: { ms: undefined, observe: () => {} },
      random: () => 0.5,
      observe: event => events.push(event),
    })
    const credentials: (Credential | undefined)[] = []
    await script[1]?.()
    for await (const credential of source(stopping.signal)) credentials.push(credential)
    return credentials
  }
  const failures = () => events.flatMap(event => (event.kind === 'failed' ? [event.error.code] : []))
  const told = () =>
    events.map(event => (event.kind === 'failed' || event.kind === 'skewed' ? event.error.code : event.kind))
  return { api, clock, directory, volume: join(directory, 'volume'), events, failures, told, run }
}
