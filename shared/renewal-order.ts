// The order to renew certificates before their time, spread over a while: what one sidecar is told, and the list that
// operators keep in the key `renewals.json` of the ConfigMap postern-revocations.
import { type Decode, integer, listOf, object, oneOf, tagged, text } from './decode.ts'
import { invalid, isoTime, RENEWALS_KEY, readJson } from './revocation-list.ts'

/** Whoever received its certificate before `before` asks for another at a random moment within so many seconds. */
export type Renewal = { readonly before: string; readonly withinSeconds: number }

type Ordered = Renewal & { readonly by: string }
export type RenewalOrder =
  | (Ordered & { readonly kind: 'all' })
  | (Ordered & {
      readonly kind: 'pod'
      readonly namespace: string
      readonly name: string
      readonly uid: string
    })

const MAX_RENEWAL_ORDERS = 1_000
export const MAX_WITHIN_SECONDS = 7 * 24 * 3600

const filled = text(value => value !== '' && value.length <= 253, 'a name')
const shape = { before: isoTime, withinSeconds: integer(0, MAX_WITHIN_SECONDS) }
const by = text(value => value.length <= 200, 'text of at most 200 characters')

export const decodeRenewal: Decode<Renewal> = object<Renewal>(shape)

const decodeOrders = listOf(
  tagged<RenewalOrder>({
    all: object<Extract<RenewalOrder, { kind: 'all' }>>({ kind: oneOf(['all']), ...shape, by }),
    pod: object<Extract<RenewalOrder, { kind: 'pod' }>>({
      kind: oneOf(['pod']),
      namespace: filled,
      name: filled,
      uid: filled,
      ...shape,
      by,
    }),
  }),
)

/** @throws PosternError PSTN_REVOCATION_INVALID naming the place and the reason. */
export function parseRenewalOrders(json: string | undefined): readonly RenewalOrder[] {
  const orders = readJson(RENEWALS_KEY, json, decodeOrders) ?? []
  if (orders.length <= MAX_RENEWAL_ORDERS) return orders
  throw invalid(`${RENEWALS_KEY}: ${orders.length} orders; at most ${MAX_RENEWAL_ORDERS}`)
}

/** The latest that concerns the pod: it contains the earlier ones. */
export function renewalOf(orders: readonly RenewalOrder[], podUid: string): Renewal | undefined {
  const own = orders.filter(order => order.kind === 'all' || order.uid === podUid)
  const [latest] = own.sort((a, b) => Date.parse(b.before) - Date.parse(a.before))
  return latest && { before: latest.before, withinSeconds: latest.withinSeconds }
}
