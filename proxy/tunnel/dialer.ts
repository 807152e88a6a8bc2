// The pool of tunnels: streams to one pod share connections. The pool's key is everything that a connection proves, so
// that a stream never travels over one that was made with another credential or to another pod at the same address.
import type { Clock } from '../../shared/clock.ts'
import { type Code, PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { Limit } from './abuse.ts'
import { StreamRefused, TunnelConnection } from './connection.ts'
import { proofOf } from './expected.ts'
import { Allowance } from './flow-control.ts'
import { Held } from './held.ts'
import type { IdentifyPeer, KeepPeer, Peer, TunnelDialer, TunnelTarget, TunnelTls } from './interface.ts'
import { createKeeper } from './keeper.ts'
import { ownInForce } from './own-in-force.ts'
import { RECEIVE } from './settings.ts'

export type TunnelDialerOptions = {
  /** Undefined: no certificate yet. */
  readonly tls: Live<TunnelTls | undefined>
  readonly identify: IdentifyPeer
  readonly clock: Clock
  /** The port of every peer's tunnel. */
  readonly port: number
  /** A peer that is silent for three of these is dead, and perhaps for two. */
  readonly livenessMs?: number
  /** Shared with the listener: it is of one process. */
  readonly held?: Held
  onLimit?(limit: Limit): void
}

/** A peer that is replaced, drains and is full: each is another connection. */
const ATTEMPTS = 4

export function createTunnelDialer(options: TunnelDialerOptions): TunnelDialer {
  const { tls, clock, held = new Held(options.onLimit) } = options
  const keeper = createKeeper(options.identify)
  const growth = new Allowance(RECEIVE.growth)
  const pool = new Map<string, Set<TunnelConnection>>()
  const every = () => [...pool.values()].flatMap(connections => [...connections])

  const connect = (key: string, target: TunnelTarget, own: TunnelTls): TunnelConnection => {
    const connections = pool.get(key) ?? new Set()
    pool.set(key, connections)
    const connection = new TunnelConnection(
      target,
      { ...options, identify: keeper.identify, tls: own, growth, held },
      () => {
        connections.delete(connection)
        if (connections.size === 0 && pool.get(key) === connections) pool.delete(key)
      },
    )
    connections.add(connection)
    return connection
  }

  /** Retires on the way what may take no new streams: a connection outlives its peer's certificate only for the live ones. */
  const pooled = (key: string): TunnelConnection | undefined => {
    for (const connection of pool.get(key) ?? []) {
      const { peer } = connection
      if (peer && peer.notAfter.getTime() <= clock.now()) connection.retire()
      else if (connection.hasRoom) return connection
    }
    return undefined
  }

  const stopRotation = tls.subscribe(next => {
    for (const connection of every()) if (connection.generation !== next?.generation) connection.retire()
  })

  const sweepPeers = (keep: KeepPeer, code: Code): Peer[] => {
    const refusal = new PosternError(code, 'the peer is no longer trusted')
    const gone = every().filter(connection => !connection.keeps(keep))
    for (const connection of gone) connection.close(refusal)
    return gone.flatMap(({ peer }) => peer ?? [])
  }

  return {
    open: async (target, signal) => {
      const own = ownInForce(tls.get(), clock.now())
      const key = poolKey(own.generation, target)
      for (let attempt = 1; ; attempt += 1) {
        const used = pooled(key)
        const connection = used ?? connect(key, target, own)
        try {
          return await connection.open(target, signal)
        } catch (thrown) {
          if (signal.aborted || attempt === ATTEMPTS || !mayRepeat(thrown, connection, !used)) throw thrown
        }
      }
    },
    closePeers: (keep, code) => {
      keeper.set(keep, code)
      sweepPeers(keep, code)
    },
    sweepPeers,
    [Symbol.asyncDispose]: async () => {
      stopRotation()
      for (const connection of every()) connection.close()
    },
  }
}

/**
 * The peer restarted, drained, rotated, was full or lost meanwhile; no byte of the application was sent. What a peer has
 * said on a connection made for this request it would only say again.
 */
function mayRepeat(thrown: unknown, connection: TunnelConnection, isNew: boolean): boolean {
  if (thrown instanceof StreamRefused) return true
  const unreachable = thrown instanceof PosternError && thrown.code === 'PSTN_PEER_UNREACHABLE'
  return connection.peer !== undefined && connection.retired && (unreachable || !isNew)
}

const poolKey = (generation: number, { address, expected }: TunnelTarget): string =>
  [generation, address, proofOf(expected)].join(' ')
