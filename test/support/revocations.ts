// Who is revoked and who is to renew, as a test says it, in the form that watchRevocations gives.
import type { Revocations } from '../../injector/revocation/watch.ts'
import { live } from '../../shared/live.ts'
import type { RenewalOrder } from '../../shared/renewal-order.ts'
import {
  NOBODY_REVOKED,
  type RevocationCheck,
  type Revoked,
  revocationCheck,
} from '../../shared/revocation.ts'

export type SetRevocations = Revocations & {
  revoke(revoked: Partial<Revoked>): void
  order(...orders: RenewalOrder[]): void
}

/** `null`: nobody knows. */
export function revocationsOf(initial: Revoked | null = NOBODY_REVOKED): SetRevocations {
  const revoked = live<Revoked | undefined>(initial ?? undefined)
  const check = live<RevocationCheck | undefined>(initial ? revocationCheck(initial) : undefined)
  const renewals = live<readonly RenewalOrder[]>([])
  return {
    revoked,
    check,
    renewals,
    revoke: some => {
      const next = { ...NOBODY_REVOKED, ...some }
      check.set(revocationCheck(next))
      revoked.set(next)
    },
    order: (...orders) => renewals.set(orders),
  }
}
