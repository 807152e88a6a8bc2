// Why a certificate is renewed before its time though it is good: an operator ordered it, or the injector said that it is
// revoked, and perhaps a new one is not.
import type { Clock } from '../../shared/clock.ts'
import { type Live, live } from '../../shared/live.ts'
import type { Renewal } from '../../shared/renewal-order.ts'
import { dueIn } from './schedule.ts'
import { instantOf, waitUntil } from './wait.ts'

export type EarlyRenewal = {
  readonly order: Live<Renewal | undefined>
  /** Serial of a certificate of ours that the injector has refused as revoked. */
  readonly revoked: Live<string | undefined>
}

export const NEVER_EARLY: EarlyRenewal = { order: live(undefined), revoked: live(undefined) }

/** `renewedFor`: the order that was known when the certificate was asked for, by its time. */
export type Received = {
  readonly serial: string
  readonly receivedAt: number
  readonly renewedFor: string | undefined
}

/**
 * Whether the order concerns this certificate. One that was asked for in answer to it is never too old, whatever our clock
 * says of the order's time: a clock that is behind must not renew for ever.
 */
const isOrdered = (
  order: Renewal | undefined,
  { receivedAt, renewedFor }: Pick<Received, 'receivedAt' | 'renewedFor'>,
): order is Renewal =>
  order !== undefined && order.before !== renewedFor && receivedAt < Date.parse(order.before)

export type Hurry = Disposable & {
  /** Aborted when it is time to renew. */
  readonly signal: AbortSignal
}

/**
 * At once for a revoked certificate; by an order at a random moment within the time that it gives, so that pods which hear
 * of it together drift apart.
 */
export function watchEarlyRenewal(
  received: Received,
  { order, revoked }: EarlyRenewal,
  { clock, random }: { readonly clock: Clock; readonly random: () => number },
): Hurry {
  const time = new AbortController()
  let waiting: { readonly before: string; readonly stop: AbortController } | undefined
  const waitFor = ({ before, withinSeconds }: Renewal) => {
    if (waiting?.before === before) return
    waiting?.stop.abort()
    const stop = new AbortController()
    waiting = { before, stop }
    const due = dueIn(withinSeconds * 1000 * random(), instantOf(clock))
    waitUntil(due, clock, stop.signal).then(
      () => time.abort(),
      () => undefined,
    )
  }
  const decide = () => {
    const present = order.get()
    if (revoked.get() === received.serial) time.abort()
    else if (isOrdered(present, received)) waitFor(present)
    else {
      waiting?.stop.abort()
      waiting = undefined
    }
  }
  const stops = [order.subscribe(decide), revoked.subscribe(decide)]
  decide()
  return {
    signal: time.signal,
    [Symbol.dispose]: () => {
      waiting?.stop.abort()
      for (const stop of stops) stop()
    },
  }
}
