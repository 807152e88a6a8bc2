// `postern certs`: every certificate of the mesh, the nearest danger first. Exit code 1 where something is in danger, so
// that a job can run it as a check.
import { decodeCaReport } from '../../shared/ca/validity.ts'
import { decodeGathered, type Gathered } from '../../shared/control/sidecar-report.ts'
import { duration } from '../../shared/duration.ts'
import { type Command, UsageError } from '../command.ts'
import { connectInjector, INJECTOR_OPTION } from '../injector.ts'
import type { Output } from '../output.ts'
import { type Row, rank } from './ranking.ts'

export const certs: Command = {
  name: 'certs',
  summary: 'Shows every certificate, the nearest danger first; exit code 1 if there is one.',
  options: {
    namespace: { type: 'string', help: 'sidecars of this namespace alone, and the CA' },
    injector: INJECTOR_OPTION,
  },
  run: async context => {
    const { args, options, out } = context
    if (args.length > 0)
      throw new UsageError(`certs takes no ${JSON.stringify(args[0])}; --namespace narrows it`)
    const injector = await connectInjector(context)
    const everything = decodeGathered(await injector.ask('/sidecars'), 'sidecars')
    const ca = decodeCaReport(await injector.ask('/ca'), 'ca')
    const { namespace } = options
    const gathered = typeof namespace === 'string' ? within(everything, namespace) : everything
    const now = Date.now()
    const rows = rank(gathered, ca, now)
    const dangers = rows.filter(({ danger }) => danger)
    const { missing } = gathered
    if (out.json) out.document({ dangers: dangers.length, certificates: rows, missing })
    else show(out, rows, gathered, now)
    return dangers.length > 0 || missing.length > 0 ? 1 : 0
  },
}

const within = ({ reports, unconnected, missing }: Gathered, namespace: string): Gathered => ({
  reports: reports.filter(report => report.namespace === namespace),
  unconnected: unconnected.filter(pod => pod.namespace === namespace),
  missing,
})

function show(out: Output, rows: readonly Row[], { missing }: Gathered, now: number): void {
  out.line(headline(rows, now))
  for (const { replica, reason } of missing) {
    out.line(`replica ${replica} did not answer (${reason}): its sidecars look as if they were not connected`)
  }
  out.line('')
  out.table(
    ['CERTIFICATE', 'STANDING', 'EXPIRES', 'SERIAL OR FINGERPRINT', 'NOTE'],
    rows.map(row => [row.name, row.standing, expiry(row, now), (row.id ?? '-').slice(0, SHOWN_ID), row.note]),
  )
}

/** Serials are whole; of a fingerprint the beginning will do. */
const SHOWN_ID = 40

export function headline(rows: readonly Row[], now: number): string {
  const [nearest] = rows
  if (!nearest) return 'there are no certificates'
  const dangers = rows.filter(({ danger }) => danger).length
  if (dangers > 0) {
    const note = nearest.note && ` (${nearest.note})`
    const standing = nearest.standing === 'expired' ? '' : `, ${nearest.standing},`
    return `IN DANGER: ${dangers} of ${rows.length}. Nearest: ${nearest.name}${standing} ${end(nearest, now)}${note}`
  }
  const first = rows.find(({ notAfter }) => notAfter !== undefined) ?? nearest
  return `nothing is in danger. The first of ${rows.length} to expire: ${first.name}, ${expiry(first, now)}`
}

function end({ notAfter, ...row }: Row, now: number): string {
  if (notAfter === undefined) return 'its end is not known'
  return `${Date.parse(notAfter) > now ? 'expires' : 'expired'} ${expiry({ ...row, notAfter }, now)}`
}

function expiry({ notAfter }: Row, now: number): string {
  if (notAfter === undefined) return 'unknown'
  const left = Date.parse(notAfter) - now
  return left > 0 ? `in ${duration(left)}` : `${duration(left)} ago`
}
