// Answers for pods that are being created: injection decides, and before a pod with a sidecar is let in, its namespace
// may ask for certificates.
import { randomBytes } from 'node:crypto'
import type { V1Pod } from '@kubernetes/client-node'
import { asPosternError, type Code } from '../../shared/errors.ts'
import { POD_ANNOTATIONS } from '../../shared/injection/annotations.ts'
import { type Injection, type InjectionContext, inject } from '../../shared/injection/inject.ts'
import { type AdmissionAnswer, type AdmissionRequest, podOf } from './admission.ts'

export type InjectionReport = {
  /** `unchanged`: called again for a pod that already is as it should be. */
  readonly outcome: 'injected' | 'unchanged' | 'skipped' | 'refused'
  readonly code?: Code
  readonly reason?: string
  readonly namespace: string
  readonly pod: V1Pod
  readonly dryRun: boolean
}

export type PodAdmission = {
  readonly optIn: InjectionContext['optIn']
  readonly settings: Pick<InjectionContext, 'mesh' | 'sidecar' | 'version'>
  /** Lets the namespace's service accounts request certificates. Awaited, so that the first sidecar need not retry. */
  ensureBinding(namespace: string, signal: AbortSignal): Promise<void>
  /** Why no pod can have its certificate in a projected volume; undefined if it can. */
  whyNoPodCertificates(signal: AbortSignal): Promise<string | undefined>
  report(report: InjectionReport): void
}

export const admitPod =
  (admission: PodAdmission) =>
  async (request: AdmissionRequest, signal: AbortSignal): Promise<AdmissionAnswer> => {
    const { optIn, settings, report } = admission
    const pod = podOf(request)
    const { namespace, dryRun } = request
    const random = randomBytes(12).toString('base64url')
    const injection = inject(pod, namespace, { ...settings, optIn, random })
    const refused = injection.kind === 'patch' ? await prepare(admission, request, pod, signal) : undefined
    const final = refused ?? injection
    report({ ...outcomeOf(final), namespace, pod, dryRun })
    return answerOf(final)
  }

/** Sees to it that the pod can get its certificate; a refusal if it cannot. */
async function prepare(
  { ensureBinding, whyNoPodCertificates }: PodAdmission,
  { namespace, dryRun }: AdmissionRequest,
  pod: V1Pod,
  signal: AbortSignal,
): Promise<Injection | undefined> {
  switch (sourceOf(pod)) {
    case 'csr':
      return dryRun ? undefined : bind(ensureBinding, namespace, signal)
    case 'pod-certificate':
      return refuseVolume(whyNoPodCertificates, signal)
    default:
      return undefined
  }
}

/** Injection has checked the value. */
const sourceOf = ({ metadata }: V1Pod): string => (metadata?.annotations?.[SOURCE] ?? 'csr').trim()

const SOURCE = POD_ANNOTATIONS.certificateSource.key

async function refuseVolume(
  whyNot: PodAdmission['whyNoPodCertificates'],
  signal: AbortSignal,
): Promise<Injection | undefined> {
  try {
    const reason = await whyNot(signal)
    const message = `${SOURCE}: pod-certificate: ${reason}; leave the annotation out`
    return reason === undefined ? undefined : { kind: 'refuse', code: 'PSTN_INJECT_REFUSED', message }
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
    if (code === 'PSTN_ADMISSION_MALFORMED') throw thrown
    const unknown = `it is not known whether this cluster has PodCertificateRequests: ${message}; try again`
    return { kind: 'refuse', code: 'PSTN_API_UNAVAILABLE', message: unknown }
  }
}

/** What went wrong, as a refusal: a sidecar that cannot get a certificate would never let its application start. */
async function bind(
  ensureBinding: PodAdmission['ensureBinding'],
  namespace: string,
  signal: AbortSignal,
): Promise<Injection | undefined> {
  try {
    await ensureBinding(namespace, signal)
    return undefined
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
    if (code === 'PSTN_ADMISSION_MALFORMED') throw thrown
    return {
      kind: 'refuse',
      code: 'PSTN_API_UNAVAILABLE',
      message: `namespace ${namespace} could not be allowed to request certificates: ${message}; try again`,
    }
  }
}

function outcomeOf(injection: Injection): Pick<InjectionReport, 'outcome' | 'code' | 'reason'> {
  switch (injection.kind) {
    case 'patch':
      return { outcome: injection.patch.length > 0 ? 'injected' : 'unchanged' }
    case 'skip':
      return { outcome: 'skipped', code: 'PSTN_INJECT_SKIPPED', reason: injection.reason }
    case 'refuse':
      return { outcome: 'refused', code: injection.code, reason: injection.message }
  }
}

function answerOf(injection: Injection): AdmissionAnswer {
  switch (injection.kind) {
    case 'patch':
      return { kind: 'allow', patch: injection.patch }
    case 'skip':
      return { kind: 'allow', warnings: [`PSTN_INJECT_SKIPPED: ${injection.reason}`] }
    case 'refuse':
      return injection
  }
}
