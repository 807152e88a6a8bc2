// The shell around the signer postern.dev/serving: signs what a person has approved, fails what may not be signed, and
// leaves the objects to Kubernetes' cleaner, as people expect of theirs. Runs on the leader alone.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import type { Live } from '../../shared/live.ts'
import { SERVING_SIGNER } from '../../shared/names.ts'
import type { Authority } from '../ca/authority.ts'
import type { SignerObserver } from './metrics.ts'
import { addCondition, setCertificate } from './objects.ts'
import { type RequestLoopContext, workRequests } from './request-loop.ts'
import { type ServingSettings, servable } from './serving.ts'
import { TrackedRequests } from './tracked-requests.ts'

export type ServingContext = RequestLoopContext & {
  readonly authority: Live<Authority>
  readonly settings: ServingSettings
  readonly observer: Pick<SignerObserver, 'issued' | 'failed' | 'retried'>
}

/** Works until `signal` aborts (leadership lost). May be called again afterwards. */
export function signServing(context: ServingContext, signal: AbortSignal): Promise<void> {
  const tracked = new TrackedRequests(context.clock)
  const answer = (request: V1CertificateSigningRequest) => answerOne(context, request, signal)
  return workRequests(context, { signerName: SERVING_SIGNER, tracked, answer }, signal)
}

async function answerOne(
  { kube, clock, log, authority, settings, observer }: ServingContext,
  object: V1CertificateSigningRequest,
  signal: AbortSignal,
): Promise<boolean> {
  const decision = servable(object, settings, clock.now())
  const { username } = object.spec
  const request = object.metadata?.name
  switch (decision.kind) {
    case 'wait':
      return false
    case 'fail': {
      const { reason } = decision
      const message = `PSTN_CSR_FAILED ${reason}`
      await addCondition(kube, object, { type: 'Failed', reason: 'PosternFailed', message }, signal)
      observer.failed()
      log.warn({ code: 'PSTN_CSR_FAILED', request, username, reason }, 'serving request failed')
      return true
    }
    case 'sign': {
      const { leaf } = decision
      const { chain, serial, notAfter } = await authority.get().issue(leaf)
      await setCertificate(kube, object, chain, signal)
      observer.issued()
      const { dnsNames, ipAddresses } = leaf
      log.info({ request, username, dnsNames, ipAddresses, serial, notAfter }, 'serving certificate issued')
      return true
    }
  }
}
