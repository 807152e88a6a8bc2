// What a request must be to be approved, in order; the first rule that is broken names the denial. The rule that
// carries the weight is `canonical`: the request must be, byte for byte, the one that its pod may make.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import { CSR_SLOTS, csrName } from '../../shared/names.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { buildCsrInfo, type Csr, isP256Spki } from '../../shared/x509/csr.ts'
import { explainDifference } from './explain.ts'
import type { BoundPod, Requester } from './request.ts'

/** Who asks, as the API server says, and the pod as it is now. */
export type PodFacts = {
  readonly requester: Requester
  readonly bound: BoundPod
  /** The live pod of that name, or undefined if there is none. */
  readonly pod: V1Pod | undefined
  readonly identity: SpiffeId | undefined
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** Everything that rules look at. `identity` and the pod's fields come from the API server, never from the request. */
export type Facts = PodFacts & {
  readonly object: V1CertificateSigningRequest
  readonly bytes: Buffer
  readonly csr: Csr | undefined
  /** Why `csr` is absent. */
  readonly flaw: string | undefined
  readonly revoked: RevocationCheck
}

export type Rule<F = Facts> = {
  readonly name: string
  /** What is broken, in words for the requester; undefined if nothing is. */
  readonly broken: (facts: F) => string | undefined
}

const MAX_REQUEST_BYTES = 4096
const USAGES = ['client auth', 'digital signature', 'server auth']

const unless = (holds: boolean, reason: string): string | undefined => (holds ? undefined : reason)

/** The pod is that of the request, and may have a certificate. */
export const POD_RULES: readonly Rule<PodFacts>[] = [
  {
    name: 'identity',
    broken: ({ identity }) =>
      unless(identity !== undefined, 'the requester’s name does not fit into a SPIFFE ID'),
  },
  {
    name: 'pod-exists',
    broken: ({ pod, bound }) => unless(pod !== undefined, `there is no pod ${bound.name} in the namespace`),
  },
  {
    name: 'pod-uid',
    broken: ({ pod, bound, requester }) =>
      unless(
        pod === undefined ||
          (pod.metadata?.uid === bound.uid &&
            pod.metadata?.name === bound.name &&
            pod.metadata?.namespace === requester.namespace),
        'the pod of this name has another uid',
      ),
  },
  {
    name: 'pod-service-account',
    broken: ({ pod, requester }) =>
      unless(
        pod === undefined || pod.spec?.serviceAccountName === requester.serviceAccount,
        `the pod does not run as service account ${requester.serviceAccount}`,
      ),
  },
  {
    name: 'pod-node',
    broken: ({ pod, bound }) =>
      unless(pod === undefined || pod.spec?.nodeName === bound.node, `the pod is not on node ${bound.node}`),
  },
  { name: 'pod-live', broken: ({ pod, now }) => (pod ? whyNotLive(pod, now) : undefined) },
]

export const RULES: readonly Rule[] = [
  {
    name: 'pod-bound-token',
    broken: ({ bound }) =>
      unless(
        Boolean(bound.name && bound.uid && bound.node),
        'the token is not bound to one pod on one node (pod-name, pod-uid, node-name: one value each)',
      ),
  },
  ...POD_RULES,
  {
    name: 'revoked',
    broken: ({ identity, bound, revoked }) =>
      revoked({ ...(identity && { identity }), ...(bound.uid && { podUid: bound.uid }) }),
  },
  {
    name: 'name',
    broken: ({ object, bound }) =>
      unless(
        isSlot(object.metadata?.name, bound.uid),
        `the name is not postern-<pod uid>-<0 to ${CSR_SLOTS - 1}>`,
      ),
  },
  {
    name: 'metadata',
    broken: ({ object }) => {
      const { labels, annotations, ownerReferences, finalizers } = object.metadata ?? {}
      const set = Object.entries({ labels, annotations, ownerReferences, finalizers })
      const [used] = set.find(([, value]) => value && Object.keys(value).length > 0) ?? []
      return used && `metadata.${used} must be empty`
    },
  },
  {
    name: 'usages',
    broken: ({ object }) =>
      unless(
        [...(object.spec.usages ?? [])].sort().join() === USAGES.join(),
        `usages must be exactly ${USAGES.join(', ')}`,
      ),
  },
  {
    name: 'size',
    broken: ({ bytes }) =>
      unless(bytes.length <= MAX_REQUEST_BYTES, `larger than ${MAX_REQUEST_BYTES} bytes`),
  },
  { name: 'pkcs10', broken: ({ flaw }) => flaw },
  {
    name: 'key',
    broken: ({ csr }) => unless(!csr || isP256Spki(csr.spki), 'the public key must be ECDSA P-256'),
  },
  {
    name: 'canonical',
    broken: ({ csr, identity }) =>
      !csr || !identity || buildCsrInfo(csr.spki, identity).equals(csr.info)
        ? undefined
        : explainDifference(csr, identity),
  },
  {
    name: 'signature',
    broken: ({ csr }) =>
      unless(!csr || csr.signatureValid, 'it is not signed with ECDSA-SHA256 by the key that it holds'),
  },
]

function isSlot(name: string | undefined, podUid: string | undefined): boolean {
  if (!podUid) return false
  return Array.from({ length: CSR_SLOTS }, (_, slot) => csrName(podUid, slot)).some(slot => slot === name)
}

/** A pod that shuts down may renew until its grace period, which deletionTimestamp includes, is over. */
function whyNotLive({ metadata, status }: V1Pod, now: number): string | undefined {
  if (status?.phase === 'Succeeded' || status?.phase === 'Failed')
    return `the pod has ended (${status.phase})`
  const deleted = metadata?.deletionTimestamp
  return deleted && new Date(deleted).getTime() < now ? 'the pod’s time to shut down is over' : undefined
}
