// Answers for pods that are being created: injection decides, and before a pod with a sidecar is let in, its namespace
// may ask for certificates.
import { randomBytes } from 'node:crypto'
import type { V1Pod } from '@kubernetes/client-node'
import { POD_ANNOTATIONS } from '../../shared/annotations.ts'
import { asPosternError, type Code } from '../../shared/errors.ts'
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
  report(report: InjectionReport): void
}

export const admitPod =
  ({ optIn, settings, ensureBinding, report }: PodAdmission) =>
  async (request: AdmissionRequest, signal: AbortSignal): Promise<AdmissionAnswer> => {
    const pod = podOf(request)
    const { namespace, dryRun } = request
    const random = randomBytes(12).toString('base64url')
    const injection = inject(pod, namespace, { ...settings, optIn, random })
    const asks = injection.kind === 'patch' && !dryRun && asksForCertificates(pod)
    const bound = asks ? await bind(ensureBinding, namespace, signal) : undefined
    const final = bound ?? injection
    report({ ...outcomeOf(final), namespace, pod, dryRun })
    return answerOf(final)
  }

/** Injection has checked the value. */
const asksForCertificates = ({ metadata }: V1Pod): boolean => {
  const written = metadata?.annotations?.[POD_ANNOTATIONS.certificateSource.key] ?? 'csr'
  return written.trim() === 'csr'
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
    const { message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
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
