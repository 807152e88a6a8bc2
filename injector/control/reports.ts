// What all replicas together know of the mesh's sidecars: each knows those that are connected to it. Asked anew each time,
// because what is kept is what misleads at the end of a rotation; a replica that is silent is named, never left out.

import type { ServerHttp2Stream } from 'node:http2'
import { pipeline, Readable } from 'node:stream'
import type { Clock } from '../../shared/clock.ts'
import type {
  Gathered,
  MissingReplica,
  SidecarReport,
  Unconnected,
} from '../../shared/control/sidecar-report.ts'
import { withDeadline } from '../../shared/deadline.ts'
import { asPosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import type { KeyedChain } from '../../shared/tls/contexts.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { World } from '../directory/world.ts'
import { askReplica, otherReplicas, type Replica } from './replicas.ts'
import type { Sidecars } from './sidecars.ts'

export type Reports = {
  /** Asks the other replicas, each for two seconds at most. @throws the signal's reason alone. */
  gather(signal: AbortSignal): Promise<Gathered>
}

export type ReportsOptions = {
  readonly world: World
  /** This replica’s name. */
  readonly replica: string
  readonly sidecars: Pick<Sidecars, 'reports'>
  /** Every replica's. */
  readonly identity: SpiffeId
  readonly svid: Live<KeyedChain>
  readonly trust: Live<TrustBundle>
  readonly clock: Clock
}

const REPLICA_TIMEOUT_MS = 2_000

type Answer = { readonly reports: readonly SidecarReport[]; readonly missing?: MissingReplica }

export function createReports(options: ReportsOptions): Reports {
  const { world, replica, sidecars, clock, identity, svid, trust } = options
  const ask = async ({ name, address }: Replica, signal: AbortSignal): Promise<Answer> => {
    const target = { address, identity, credential: svid.get(), bundle: trust.get(), now: clock.now() }
    const late = `no answer within ${REPLICA_TIMEOUT_MS} ms`
    try {
      const deadline = { clock, ms: REPLICA_TIMEOUT_MS, signal, late }
      return { reports: await withDeadline(deadline, soon => askReplica(target, soon)) }
    } catch (thrown) {
      signal.throwIfAborted()
      const { code, message } = asPosternError(thrown, 'PSTN_CONTROL_LOST')
      return { reports: [], missing: { replica: name, reason: `${code}: ${message}` } }
    }
  }
  return {
    gather: async signal => {
      const others = await Promise.all(otherReplicas(world, replica).map(other => ask(other, signal)))
      const answers: readonly Answer[] = [{ reports: [...sidecars.reports()] }, ...others]
      return merge(world, answers)
    },
  }
}

/** A pod that moved from one replica to another may be known to both: what is newer counts. */
export function merge({ pods }: Pick<World, 'pods'>, answers: readonly Answer[]): Gathered {
  const latest = new Map<string, SidecarReport>()
  for (const report of answers.flatMap(({ reports }) => reports)) {
    const known = latest.get(report.podUid)
    if (!known || isNewer(report, known)) latest.set(report.podUid, report)
  }
  const unconnected: Unconnected[] = []
  for (const { uid, name, namespace, live, mesh, addresses } of pods.values()) {
    if (!live || !mesh) continue
    const last = latest.get(uid)
    if (last && last.endedAt === undefined) continue
    const starting = addresses.length === 0
    unconnected.push({ podUid: uid, pod: name, namespace, starting, ...(last && { last }) })
  }
  return {
    reports: [...latest.values()].filter(({ endedAt }) => endedAt === undefined),
    missing: answers.flatMap(({ missing }) => missing ?? []),
    unconnected,
  }
}

function isNewer(a: SidecarReport, b: SidecarReport): boolean {
  if ((a.endedAt === undefined) !== (b.endedAt === undefined)) return a.endedAt === undefined
  return (a.endedAt ?? a.connectedSince) > (b.endedAt ?? b.connectedSince)
}

/** The lines that another replica asked for. */
export function sendReports(stream: ServerHttp2Stream, reports: Iterable<SidecarReport>): void {
  stream.respond({ ':status': 200, 'content-type': 'application/x-ndjson' })
  pipeline(Readable.from(chunks(reports)), stream, () => undefined)
}

const LINES_PER_CHUNK = 100

function* chunks(reports: Iterable<SidecarReport>): Generator<string> {
  let gathered: string[] = []
  for (const report of reports) {
    gathered.push(`${JSON.stringify(report)}\n`)
    if (gathered.length < LINES_PER_CHUNK) continue
    yield gathered.join('')
    gathered = []
  }
  if (gathered.length > 0) yield gathered.join('')
}
