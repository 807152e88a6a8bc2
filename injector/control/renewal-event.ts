// What an Event on a pod says when its certificate is not renewed, and when it is again. Named after what it tells, so that
// replicas which all know of it write it once; told again while it lasts, because the API server forgets Events.
import { healthOf } from '../../shared/control/certificate-health.ts'
import type { SidecarReport } from '../../shared/control/sidecar-report.ts'
import { duration } from '../../shared/duration.ts'
import { CODES, isCode } from '../../shared/errors.ts'
import { eventOn, type KubeEvent, type Told } from '../events/event.ts'

export type RenewalEvent = KubeEvent & { readonly metadata: { readonly name: string } }

/** Below the hour after which an API server forgets Events, unless told otherwise. */
const TOLD_AGAIN_MS = 50 * 60_000

/** Undefined: there is nothing to tell. */
export function failureEvent(report: SidecarReport, now: number): RenewalEvent | undefined {
  const { renewal, certificate } = report
  const health = healthOf(report, now)
  if (health === 'good' || health === 'unknown') return undefined
  const since = Date.parse(renewal?.since ?? certificate?.receivedAt ?? certificate?.notAfter ?? '')
  const times = Math.max(Math.floor((now - since) / TOLD_AGAIN_MS), 0)
  const message = `${whatFails(report)}; ${whatIsLeft(report, now)}. ${whatToDo(report)}`
  return onPod(report, {
    name: `${nameOf(report)}-${Math.floor(since / 1000)}-${times}`,
    type: 'Warning',
    reason: 'CertificateNotRenewed',
    message,
    now,
  })
}

export function recoveryEvent(report: SidecarReport, now: number): RenewalEvent {
  const { certificate } = report
  const serial = certificate ? `; the present one is ${certificate.serial}, ${whatIsLeft(report, now)}` : ''
  return onPod(report, {
    name: `${nameOf(report)}-${certificate?.serial ?? Math.floor(now / 1000)}`,
    type: 'Normal',
    reason: 'CertificateRenewed',
    message: `the certificate is renewed again${serial}`,
    now,
  })
}

const nameOf = ({ podUid }: SidecarReport): string => `postern-renewal-${podUid}`

function whatFails({ renewal }: SidecarReport): string {
  if (!renewal) return 'the certificate has not been renewed in time, and the sidecar tells of no failure'
  const { code, failures, since } = renewal
  return `${code}: the certificate is not renewed: ${failures} attempts have failed since ${since}`
}

function whatIsLeft({ certificate }: SidecarReport, now: number): string {
  if (!certificate) return 'there is none'
  const left = Date.parse(certificate.notAfter) - now
  const until = certificate.notAfter
  return left > 0 ? `it is valid for ${duration(left)} more, until ${until}` : `it expired at ${until}`
}

function whatToDo({ renewal }: SidecarReport): string {
  const code = renewal?.code ?? ''
  return isCode(code)
    ? `${CODES[code].meaning} ${CODES[code].hint}`
    : 'The log of its container postern-proxy says more.'
}

function onPod(report: SidecarReport, told: Told & { readonly name: string }): RenewalEvent {
  const { pod, namespace, podUid, replica } = report
  const object = { kind: 'Pod', name: pod, uid: podUid, namespace }
  const event = eventOn(object, { ...told, host: replica })
  return { ...event, metadata: { ...event.metadata, name: told.name } }
}
