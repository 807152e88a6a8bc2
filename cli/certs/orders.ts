// The ConfigMap postern-revocations as commands change it: read strictly, changed, and written only if nobody has changed it
// meanwhile. What has expired is dropped on the way, so that it does not grow for ever.
import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node'
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { REVOCATIONS_CONFIGMAP, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { parseRenewalOrders, type RenewalOrder } from '../../shared/renewal-order.ts'
import {
  checkKeys,
  formatList,
  isInForce,
  parseRevocations,
  RENEWALS_KEY,
  REVOCATIONS_KEY,
  type Revocation,
} from '../../shared/revocation-list.ts'

export type Orders = {
  readonly revocations: readonly Revocation[]
  readonly renewals: readonly RenewalOrder[]
}

const COLLECTION = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`
const PATH = `${COLLECTION}/${REVOCATIONS_CONFIGMAP}`
/** The API server takes 1 MiB of data. */
const MAX_BYTES = 1_000_000
const TRIES = 5
const DAY_MS = 24 * 3600 * 1000
/** No sidecar may ask for a certificate that lives longer than a year: older orders and revocations concern nobody. */
export const LONGEST_LIFE_MS = 366 * DAY_MS

/** @throws PosternError PSTN_REVOCATION_INVALID if what is there cannot be read: it must be mended by hand. */
export async function readOrders(kube: Kube, signal: AbortSignal): Promise<Orders> {
  return ordersIn(await find(kube, signal))
}

/** @throws PosternError PSTN_REVOCATION_INVALID, PSTN_LIMIT if it would be too long, PSTN_API_UNAVAILABLE */
export async function changeOrders(
  kube: Kube,
  change: (orders: Orders) => Orders,
  now: number,
  signal: AbortSignal,
): Promise<Orders> {
  for (let tries = 1; ; tries += 1) {
    const present = await find(kube, signal)
    const next = await withoutGone(kube, withoutExpired(change(ordersIn(present)), now), now, signal)
    try {
      await write(kube, present, next, signal)
      return next
    } catch (thrown) {
      // Somebody was faster: what they wrote is changed, not overwritten.
      if (!isKubeError(thrown, 409) || tries === TRIES) throw thrown
    }
  }
}

async function find(kube: Kube, signal: AbortSignal): Promise<V1ConfigMap | undefined> {
  try {
    return await kube.get<V1ConfigMap>(PATH, signal)
  } catch (thrown) {
    if (isKubeError(thrown, 404)) return undefined
    throw thrown
  }
}

function ordersIn(configMap: V1ConfigMap | undefined): Orders {
  const { data = {}, binaryData } = configMap ?? {}
  checkKeys(data, binaryData)
  return {
    revocations: parseRevocations(data[REVOCATIONS_KEY]),
    renewals: parseRenewalOrders(data[RENEWALS_KEY]),
  }
}

async function write(
  kube: Kube,
  present: V1ConfigMap | undefined,
  { revocations, renewals }: Orders,
  signal: AbortSignal,
): Promise<void> {
  const data = { [REVOCATIONS_KEY]: formatList(revocations), [RENEWALS_KEY]: formatList(renewals) }
  // As strictly as it will be read.
  ordersIn({ data })
  const bytes = Object.values(data).reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  if (bytes > MAX_BYTES) {
    const entries = revocations.length + renewals.length
    const why = `${entries} entries are ${bytes} bytes, more than a ConfigMap holds`
    throw new PosternError('PSTN_LIMIT', `${why}: revoke an identity in place of its certificates`)
  }
  const typed = { apiVersion: 'v1', kind: 'ConfigMap' }
  if (present) await kube.replace<V1ConfigMap>(PATH, { ...present, ...typed, data }, signal)
  else {
    const metadata = { name: REVOCATIONS_CONFIGMAP, namespace: SYSTEM_NAMESPACE }
    await kube.create<V1ConfigMap>(COLLECTION, { ...typed, metadata, data }, signal)
  }
}

/** A pod that is gone asks for nothing any more, and after the longest life none of its certificates is left. */
async function withoutGone(kube: Kube, orders: Orders, now: number, signal: AbortSignal): Promise<Orders> {
  const gone = new Set<Revocation>()
  for (const entry of orders.revocations) {
    if (entry.kind !== 'pod' || now - Date.parse(entry.since) < LONGEST_LIFE_MS) continue
    const path = `/api/v1/namespaces/${entry.namespace}/pods/${entry.name}`
    const uid = await kube.get<V1Pod>(path, signal).then(
      ({ metadata }) => metadata?.uid,
      thrown => (isKubeError(thrown, 404) ? undefined : entry.uid),
    )
    if (uid !== entry.uid) gone.add(entry)
  }
  return { ...orders, revocations: orders.revocations.filter(entry => !gone.has(entry)) }
}

const withoutExpired = ({ revocations, renewals }: Orders, now: number): Orders => ({
  revocations: revocations.filter(entry => isInForce(entry, now)),
  renewals: renewals.filter(({ before }) => now - Date.parse(before) < LONGEST_LIFE_MS),
})
