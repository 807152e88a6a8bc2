// When the sidecar is ready: once it has had a certificate, trust and policy, it stays so, because with them it can
// serve through any outage of ours. Only an expired certificate that the signer refuses to renew takes readiness
// away: waiting cannot help then, and a silent signer is a metric and an event, not an outage. So does a source that has
// taken the identity back.
import type { Code } from '../../shared/errors.ts'

export type ReadinessFacts = {
  readonly certificate: 'missing' | 'valid' | 'expired'
  /** The latest answer to a certificate request, if it was a refusal. */
  readonly refusal: Code | undefined
  readonly trust: boolean
  readonly policy: boolean
  /** Whether the containers that want them have certificate files: they start once we are ready. */
  readonly certFiles?: boolean
}

export type Readiness = {
  /** Whether it has ever been ready. */
  readonly latched: boolean
  /** Why it is not ready; empty when it is. */
  readonly reasons: readonly string[]
}

export const NEVER_READY: Readiness = { latched: false, reasons: ['starting'] }

export const isReady = ({ reasons }: Readiness): boolean => reasons.length === 0

/** The next state from the former one and what holds now; pure. */
export function nextReadiness({ latched }: Readiness, facts: ReadinessFacts): Readiness {
  if (!latched) {
    const reasons = missing(facts)
    return { latched: reasons.length === 0, reasons }
  }
  const { certificate, refusal } = facts
  if (certificate === 'missing') return { latched, reasons: ['the identity was taken back'] }
  const hopeless = certificate === 'expired' && refusal !== undefined && REFUSALS.includes(refusal)
  return {
    latched,
    reasons: hopeless ? [`the certificate has expired and its renewal fails: ${refusal}`] : [],
  }
}

const REFUSALS: readonly Code[] = ['PSTN_CSR_DENIED', 'PSTN_CSR_FAILED', 'PSTN_SOURCE_NO_IDENTITY']

function missing({ certificate, refusal, trust, policy, certFiles = true }: ReadinessFacts): string[] {
  const why = refusal === undefined ? '' : `: ${refusal}`
  return [
    ...(certificate === 'missing' ? [`no certificate yet${why}`] : []),
    ...(certificate === 'expired' ? [`the certificate has expired${why}`] : []),
    ...(trust ? [] : ['no trust bundle yet']),
    ...(policy ? [] : ['no policy yet']),
    ...(certFiles ? [] : ['no certificate files yet']),
  ]
}
