// The other replicas of the injector, and how one of them is asked for its sidecars. Where they are is read from the
// directory; that they are what they seem is proved by the certificate of whoever answers there.
import { once } from 'node:events'
import { connect as connectHttp2, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from 'node:http2'
import type { Socket } from 'node:net'
import { dialInjector, type InjectorTarget } from '../../shared/control/dial.ts'
import { SIDECARS_PATH } from '../../shared/control/messages.ts'
import {
  decodeSidecarReport,
  MAX_REPORT_BYTES,
  type SidecarReport,
} from '../../shared/control/sidecar-report.ts'
import { PosternError } from '../../shared/errors.ts'
import { lines } from '../../shared/lines.ts'
import { INJECTOR_NAME } from '../../shared/names.ts'
import { INJECTOR_PORTS } from '../../shared/ports.ts'
import type { World } from '../directory/world.ts'

export type Replica = { readonly name: string /** `host:port` */; readonly address: string }

/** The Service's target port. */
const CONTROL_PORT = 'control'

/**
 * Live pods of the injector's service account in its own namespace, but `self`: neither can be had by a pod of another
 * namespace, as labels can.
 */
export function otherReplicas({ pods, settings }: Pick<World, 'pods' | 'settings'>, self: string): Replica[] {
  const found: Replica[] = []
  for (const { name, namespace, serviceAccount, live, addresses, namedPorts } of pods.values()) {
    if (namespace !== settings.systemNamespace || serviceAccount !== INJECTOR_NAME || !live) continue
    const [address] = addresses
    if (name === self || address === undefined) continue
    const port = namedPorts.find(named => named.name === CONTROL_PORT)?.port ?? INJECTOR_PORTS.control
    found.push({ name, address: `${address.includes(':') ? `[${address}]` : address}:${port}` })
  }
  return found
}

/** More than a replica can have connected and have known. */
const MAX_REPORTS = 100_000

/** @throws PosternError PSTN_CONTROL_LOST, PSTN_CONTROL_REJECTED, PSTN_CONTROL_MALFORMED, PSTN_TLS_FAILED, PSTN_PEER_… */
export async function askReplica(target: InjectorTarget, signal: AbortSignal): Promise<SidecarReport[]> {
  const { socket } = await dialInjector(target, signal)
  const session = connectHttp2(`https://${target.address}`, {
    createConnection: (): Socket => socket,
    settings: { enablePush: false },
  })
  const failures: unknown[] = []
  session.on('error', error => failures.push(error))
  const end = () => session.destroy()
  signal.addEventListener('abort', end, { once: true })
  try {
    const stream = session.request({ ':path': SIDECARS_PATH })
    const closed = new AbortController()
    stream.on('close', () => closed.abort())
    stream.on('error', error => failures.push(error))
    const [headers] = (await once(stream, 'response', { signal: closed.signal })) as [
      IncomingHttpHeaders & IncomingHttpStatusHeader,
    ]
    refuseUnlessAccepted(headers)
    const reports: SidecarReport[] = []
    for await (const line of lines(stream, MAX_REPORT_BYTES)) {
      if (reports.push(reportFrom(line)) > MAX_REPORTS)
        throw new PosternError('PSTN_LIMIT', `more than ${MAX_REPORTS} sidecars`)
    }
    return reports
  } catch (thrown) {
    signal.throwIfAborted()
    if (thrown instanceof PosternError) throw thrown
    const cause = failures[0] ?? thrown
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new PosternError('PSTN_CONTROL_LOST', reason, { cause })
  } finally {
    signal.removeEventListener('abort', end)
    session.destroy()
  }
}

function refuseUnlessAccepted(headers: IncomingHttpHeaders & IncomingHttpStatusHeader): void {
  const { ':status': status, 'postern-code': code } = headers
  if (status === 200) return
  // A replica of v0.1.0 knows no other path than that of the control stream.
  const why = status === 404 ? 'it is of a version that cannot say' : (code ?? 'without a code')
  throw new PosternError('PSTN_CONTROL_REJECTED', `answered ${status}: ${why}`)
}

function reportFrom(line: string): SidecarReport {
  try {
    return decodeSidecarReport(JSON.parse(line), 'report')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new PosternError('PSTN_CONTROL_MALFORMED', reason, { cause })
  }
}
