// The sidecar's end of the control stream: keeps one open to any injector replica, and goes on with the last good state
// when there is none. Nothing here can cost a request while it is down.
import { backoffMs } from '../../shared/backoff.ts'
import { decodeState } from '../../shared/control/decode.ts'
import { HEARTBEAT_MS, LOST_AFTER_MS, type State } from '../../shared/control/messages.ts'
import { asPosternError, type PosternError } from '../../shared/errors.ts'
import { type Live, live, until } from '../../shared/live.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import type { Credential } from '../credentials/credential.ts'
import type { StateVolume } from '../credentials/state-volume.ts'
import { ControlSession, refuseInjector, type SessionContext } from './control-session.ts'
import { openControlStream } from './control-stream.ts'

export type ControlOptions = Omit<SessionContext, 'state' | 'heartbeatMs' | 'lostAfterMs'> & {
  /** `host:port` */
  readonly address: string
  readonly localAddress?: string
  readonly injectorIdentity: SpiffeId
  readonly volume: StateVolume
  readonly timing?: {
    readonly heartbeatMs: number
    readonly lostAfterMs: number
    readonly retryBaseMs: number
  }
}

export type ControlClient = {
  /** The last good state; at first the one that was kept from before a restart. */
  readonly state: Live<State | undefined>
  readonly connected: Live<boolean>
  /** Until aborted. */
  run(signal: AbortSignal): Promise<void>
}

const TIMING = { heartbeatMs: HEARTBEAT_MS, lostAfterMs: LOST_AFTER_MS, retryBaseMs: 1_000 }
const RETRY_CAP_MS = 15_000

export async function createControlClient(options: ControlOptions): Promise<ControlClient> {
  const { clock, random, observe, trust, volume, credential } = options
  const { retryBaseMs, ...beats } = options.timing ?? TIMING
  const state = live(kept(await volume.read('state.json')))
  state.subscribe(next => void volume.write('state.json', next))
  const connected = live(false)
  const context: SessionContext = { ...options, ...beats, state }

  const open = async (signal: AbortSignal) => {
    const valid = (own: Credential | undefined): own is Credential =>
      own !== undefined && own.notAfter.getTime() > clock.now()
    const own = await until(credential, valid, signal)
    const bundle = await until(trust.bundle, value => value !== undefined, signal)
    const { address, localAddress, injectorIdentity: identity } = options
    const target = { address, identity, credential: own, bundle, ...(localAddress && { localAddress }) }
    const stream = await openControlStream({ ...target, now: clock.now() }, signal)
    return { stream, own }
  }

  /** Whether the stream was of use before it failed; how many failures there are in a row follows from it. */
  const once = async (signal: AbortSignal): Promise<{ useful: boolean; error?: PosternError }> => {
    let session: ControlSession | undefined
    try {
      const { stream, own } = await open(signal)
      using _ = stream
      refuseInjector(stream.injector, state.get())
      session = new ControlSession(context, stream)
      observe({ kind: 'connected', injector: stream.injector })
      connected.set(true)
      await session.hold(own, signal)
      return { useful: true }
    } catch (thrown) {
      return { useful: session?.wasUseful ?? false, error: asPosternError(thrown, 'PSTN_CONTROL_LOST') }
    } finally {
      if (session) connected.set(false)
    }
  }

  const run = async (signal: AbortSignal): Promise<void> => {
    for (let failures = 0; !signal.aborted; ) {
      const { useful, error } = await once(signal)
      if (signal.aborted) return
      failures = useful ? 0 : failures + 1
      const backoff = { baseMs: retryBaseMs, capMs: RETRY_CAP_MS }
      const retryMs = backoffMs(backoff, Math.max(failures - 1, 0), random())
      if (error) await lost(error, retryMs, signal)
      await clock.sleep(retryMs, signal).catch(() => undefined)
    }
  }

  const lost = async (error: PosternError, retryMs: number, signal: AbortSignal): Promise<void> => {
    observe({ kind: 'lost', error, retryMs })
    if (!error.code.startsWith('PSTN_PEER_')) return
    await trust.refresh(signal, 'doubt').catch(thrown => {
      observe({ kind: 'trust-refused', error: asPosternError(thrown, 'PSTN_TRUST_INVALID') })
    })
  }

  return { state, connected, run }
}

/** A damaged copy counts as none. */
function kept(value: unknown): State | undefined {
  try {
    return decodeState(value)
  } catch {
    return undefined
  }
}
