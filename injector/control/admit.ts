// Whether a peer may have the control stream of a pod. Pure: the certificate was verified before; this compares what it
// proves (the service account) and where it comes from with the pod that the hello names.
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'
import type { World } from '../directory/world.ts'

export type Claim = { readonly podUid: string; readonly peer: Pick<VerifiedPeer, 'identity' | 'address'> }

export type Admission =
  | { readonly kind: 'admit'; readonly pod: string; readonly namespace: string }
  /** `mayHeal`: the injector may learn it in a moment, since a sidecar may be faster than its pod's status. */
  | { readonly kind: 'reject'; readonly reason: string; readonly mayHeal: boolean }

export function admit(world: World, { podUid, peer }: Claim): Admission {
  const pod = world.pods.get(podUid)
  if (!pod) return { kind: 'reject', reason: `no pod has the uid ${podUid}`, mayHeal: true }
  const { namespace, serviceAccount, addresses } = pod
  const name = `${namespace}/${pod.name}`
  const expected = workloadSpiffeId({ trustDomain: world.settings.trustDomain, namespace, serviceAccount })
  if (peer.identity !== expected) {
    return {
      kind: 'reject',
      reason: `the certificate is ${peer.identity}, pod ${name} is ${expected}`,
      mayHeal: false,
    }
  }
  if (!pod.live) return { kind: 'reject', reason: `pod ${name} has ended`, mayHeal: false }
  if (!addresses.includes(peer.address)) {
    const known = addresses.join(', ') || 'none'
    return {
      kind: 'reject',
      reason: `${peer.address} is no address of pod ${name} (${known})`,
      mayHeal: true,
    }
  }
  return { kind: 'admit', pod: pod.name, namespace }
}
