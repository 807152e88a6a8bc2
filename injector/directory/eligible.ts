// Which of a Service's endpoints a caller may be sent to by where it stands: those that kube-proxy would use on its node,
// so that what a Service says about its traffic (internalTrafficPolicy, trafficDistribution, topology-aware routing)
// holds for pods with a sidecar as for others. The rules are those of KEP-2086, KEP-2433, KEP-3015 and KEP-1669.
import type { SliceEndpoint } from './records.ts'

/** Where a pod stands. */
export type Place = { readonly node: string; readonly zone: string | undefined }

/** `node` is the endpoint's own. */
export type Placed = Pick<SliceEndpoint, 'terminating' | 'hints'> & { readonly node: string | undefined }

export type Eligible<E> = {
  readonly endpoints: readonly E[]
  /** Hints have decided: among these no zone is to be preferred. */
  readonly hinted: boolean
}

/** `isLocal`: internalTrafficPolicy is Local. Without a place: whoever asks is no pod, and sees them all. */
export function eligible<E extends Placed>(
  all: readonly E[],
  place: Place | undefined,
  isLocal: boolean,
): Eligible<E> {
  const reachable = isLocal && place ? all.filter(({ node }) => node === place.node) : all
  const ready = reachable.filter(({ terminating }) => !terminating)
  // Rather to one that still serves while it ends than to none.
  if (ready.length === 0) return { endpoints: reachable, hinted: false }
  const hinted = place && !isLocal ? byHints(ready, place) : undefined
  return { endpoints: hinted ?? ready, hinted: hinted !== undefined }
}

/** Hints count only if every endpoint has them and some name where we are: else the rest would be overloaded or missed. */
function byHints<E extends Placed>(ready: readonly E[], { node, zone }: Place): readonly E[] | undefined {
  const sameNode = hinted(ready, 'nodes', node)
  if (sameNode) return sameNode
  return zone === undefined ? undefined : hinted(ready, 'zones', zone)
}

function hinted<E extends Placed>(
  ready: readonly E[],
  kind: 'nodes' | 'zones',
  own: string,
): readonly E[] | undefined {
  if (!ready.every(({ hints }) => hints?.[kind])) return undefined
  const ours = ready.filter(({ hints }) => hints?.[kind]?.includes(own))
  return ours.length > 0 ? ours : undefined
}
