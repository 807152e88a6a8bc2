// How a certificate stands, in one judgement that the injector's metrics and Events and the command line share.
import type { SidecarReport } from './sidecar-report.ts'

export type Health =
  /** Nobody takes it any more. */
  | 'expired'
  /** Renewals fail, more often than a hiccup explains. */
  | 'failing'
  /** Less than a quarter of its life is left: a renewal begins when half of it has passed at the latest. */
  | 'late'
  | 'good'
  /** The sidecar has none, or has not said yet. */
  | 'unknown'

/** The first failures in a row are a rollout of the injector or a change of its leader. */
const FAILURES_WORTH_TELLING = 3
const LEAST_SHARE_LEFT = 0.25

type Reported = Pick<SidecarReport, 'certificate' | 'renewal'>

export function healthOf({ certificate, renewal }: Reported, now: number): Health {
  if (!certificate) return renewal ? 'failing' : 'unknown'
  const notAfter = Date.parse(certificate.notAfter)
  if (now >= notAfter) return 'expired'
  const isLate =
    certificate.receivedAt !== undefined && isLastQuarter(Date.parse(certificate.receivedAt), notAfter, now)
  if (renewal && (isLate || renewal.failures >= FAILURES_WORTH_TELLING)) return 'failing'
  return isLate ? 'late' : 'good'
}

const isLastQuarter = (from: number, to: number, now: number): boolean =>
  to - now < (to - from) * LEAST_SHARE_LEFT
