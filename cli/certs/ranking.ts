// Every certificate of the mesh in one order: what is nearest to doing harm comes first. Pure, so that the table, the
// first line, the JSON and the exit code cannot disagree.
import type { CaReport, CaValidity } from '../../shared/ca/validity.ts'
import { type Health, healthOf } from '../../shared/control/certificate-health.ts'
import type { Gathered, SidecarReport, Unconnected } from '../../shared/control/sidecar-report.ts'
import { duration } from '../../shared/duration.ts'

export type Standing =
  | Health
  /** Its pod runs, and no replica of the injector hears of it. */
  | 'silent'
  /** Its pod has no address yet. */
  | 'starting'

export type Row = {
  /** `<namespace>/<pod>`, `issuer` or `root`. */
  readonly name: string
  readonly standing: Standing
  /** Worth waking somebody: it has expired, or will unless somebody does something. */
  readonly danger: boolean
  readonly notAfter?: string
  /** Of a sidecar's certificate its serial, of the CA's the fingerprint. */
  readonly id?: string
  /** What else is known, for people. */
  readonly note: string
}

/** The first is the worst. */
const ORDER: readonly Standing[] = ['expired', 'failing', 'late', 'silent', 'unknown', 'starting', 'good']
const HARMLESS: readonly Standing[] = ['good', 'starting']

/** An issuer is replaced when a third of its life is left; a root by whoever runs the mesh, who needs to be told in time. */
const ISSUER_LEAST_SHARE = 0.25
const ROOT_LEAST_MS = 90 * 24 * 3_600_000
/** A sidecar that lost its stream comes back within seconds. */
const COMES_BACK_MS = 60_000

export function rank(
  { reports, unconnected }: Pick<Gathered, 'reports' | 'unconnected'>,
  ca: CaReport,
  now: number,
): readonly Row[] {
  const rows = [
    authorityRow('issuer', ca.issuer, now, lifeOf(ca.issuer) * ISSUER_LEAST_SHARE),
    ...ca.roots.map(root => authorityRow('root', root, now, ROOT_LEAST_MS)),
    ...reports.map(report => connectedRow(report, now)),
    ...unconnected.map(pod => unconnectedRow(pod, now)),
  ]
  return rows.sort(
    (a, b) =>
      ORDER.indexOf(a.standing) - ORDER.indexOf(b.standing) ||
      endOf(a) - endOf(b) ||
      a.name.localeCompare(b.name),
  )
}

const endOf = ({ notAfter }: Row): number =>
  notAfter === undefined ? Number.POSITIVE_INFINITY : Date.parse(notAfter)

const lifeOf = ({ notBefore, notAfter }: CaValidity): number => Date.parse(notAfter) - Date.parse(notBefore)

function authorityRow(
  name: string,
  { notAfter, fingerprint }: CaValidity,
  now: number,
  leastMs: number,
): Row {
  const left = Date.parse(notAfter) - now
  const standing = left <= 0 ? 'expired' : left < leastMs ? 'late' : 'good'
  return row(name, standing, { notAfter, id: fingerprint, note: '' })
}

function connectedRow(report: SidecarReport, now: number): Row {
  return row(`${report.namespace}/${report.pod}`, healthOf(report, now), known(report))
}

function unconnectedRow({ namespace, pod, starting, last }: Unconnected, now: number): Row {
  const name = `${namespace}/${pod}`
  if (!last?.endedAt) {
    const note = starting ? 'the pod has no address yet' : 'not connected; nothing is known of it'
    return row(name, starting ? 'starting' : 'silent', { note })
  }
  const awayMs = now - Date.parse(last.endedAt)
  const health = healthOf(last, now)
  const details = known(last)
  const note = [`not connected for ${duration(awayMs)}`, details.note].filter(Boolean).join('; ')
  const isAway = (health === 'good' || health === 'unknown') && awayMs > COMES_BACK_MS
  return row(name, isAway ? 'silent' : health, { ...details, note })
}

function known({ certificate, renewal }: SidecarReport): Pick<Row, 'notAfter' | 'id' | 'note'> {
  const note = renewal ? `${renewal.code}, ${renewal.failures} failures since ${renewal.since}` : ''
  return { ...(certificate && { notAfter: certificate.notAfter, id: certificate.serial }), note }
}

const row = (name: string, standing: Standing, rest: Pick<Row, 'notAfter' | 'id' | 'note'>): Row => ({
  name,
  standing,
  danger: !HARMLESS.includes(standing),
  ...rest,
})
