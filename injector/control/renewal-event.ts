// What an Event on a pod says when its certificate is not renewed, and when it is again. Named after what it tells, so that
// replicas which all know of it write it once; told again while it lasts, because the API server forgets Events.
import type { CoreV1Event } from '@kubernetes/client-node'
import { healthOf } from '../../shared/control/certificate-health.ts'
import type { SidecarReport } from '../../shared/control/sidecar-report.ts'
import { duration } from '../../shared/duration.ts'
import { CODES, isCode } from '../../shared/errors.ts'
import { INJECTOR_NAME } from '../../shared/names.ts'

/** As on the wire, where times are text. */
export type RenewalEvent = Omit<CoreV1Event, 'firstTimestamp' | 'lastTimestamp'> & {
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly firstTimestamp: string
  readonly lastTimestamp: string
}

/** Below the hour after which an API server forgets Events, unless told otherwise. */
const TOLD_AGAIN_MS = 50 * 60_000
/** The API server refuses longer ones. */
const MAX_MESSAGE = 1024

/** Undefined: there is nothing to tell. */
export function failureEvent(report: SidecarReport, now: number): RenewalEvent | undefined {
  const { renewal, certificate } = report
  const health = healthOf(report, now)
  if (health === 'good' || health === 'unknown') return undefined
  const since = Date.parse(renewal?.since ?? certificate?.receivedAt ?? certificate?.notAfter ?? '')
  const times = Math.max(Math.floor((now - since) / TOLD_AGAIN_MS), 0)
  const message = `${whatFails(report)}; ${whatIsLeft(report, now)}. ${whatToDo(report)}`
  return eventOn(report, {
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
  return eventOn(report, {
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

type Told = Pick<RenewalEvent, 'reason' | 'message' | 'type'> & {
  readonly name: string
  readonly now: number
}

function eventOn({ pod, namespace, podUid, replica }: SidecarReport, told: Told): RenewalEvent {
  const { name, type, reason, message = '', now } = told
  const time = new Date(now).toISOString()
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name, namespace },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', name: pod, uid: podUid, namespace },
    ...(type && { type }),
    ...(reason && { reason }),
    message: message.slice(0, MAX_MESSAGE),
    source: { component: INJECTOR_NAME, host: replica },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  }
}
