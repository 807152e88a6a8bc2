// Which path of the webhook answers what. The manifests in deploy/ name the same paths.
import { admitFederation, type FederationAdmission } from './federation.ts'
import { admitPod, type PodAdmission } from './pods.ts'
import { admitPolicies } from './policies.ts'
import type { AdmissionHandler } from './server.ts'

export const WEBHOOK_PATHS = {
  /** Entry with matchConditions on the pod's annotation. */
  pod: '/inject/pod',
  /** Entry with a namespaceSelector. */
  namespace: '/inject/namespace',
  policy: '/validate/policy',
  federation: '/validate/federation',
} as const

export const webhookRoutes = (
  pods: Omit<PodAdmission, 'optIn'>,
  federation: FederationAdmission,
): ReadonlyMap<string, AdmissionHandler> =>
  new Map<string, AdmissionHandler>([
    [WEBHOOK_PATHS.pod, admitPod({ ...pods, optIn: 'pod' })],
    [WEBHOOK_PATHS.namespace, admitPod({ ...pods, optIn: 'namespace' })],
    [WEBHOOK_PATHS.policy, admitPolicies],
    [WEBHOOK_PATHS.federation, admitFederation(federation)],
  ])
