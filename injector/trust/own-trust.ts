// Whom the mesh trusts, as this replica tells it to sidecars and publishes it: of the CA's Secret, and of another signer's file
// of roots. One value, so that each change of it is told once, and the end of a root never without its reason.
import { isDeepStrictEqual } from 'node:util'
import { type Live, live } from '../../shared/live.ts'
import type { OwnTrust } from '../../shared/trust-bundle.ts'
import { bundleOf } from '../ca/authority.ts'
import { formerRoots } from '../ca/rotation.ts'
import type { StoredCa } from '../ca/store.ts'

/** @param others roots of another signer. Always the CA's own, too: the injector's SVID is from it. */
export function ownTrust(
  trustDomain: string,
  stored: Live<Pick<StoredCa, 'material'>>,
  others: Live<readonly string[]>,
): Live<OwnTrust> {
  const now = (): OwnTrust => {
    const { material } = stored.get()
    return { trustDomain, roots: [...others.get(), ...bundleOf(material)], former: formerRoots(material) }
  }
  const trust = live(now())
  const follow = () => {
    const next = now()
    // Most writes of the Secret are an operator's request or a date.
    if (!isDeepStrictEqual(next, trust.get())) trust.set(next)
  }
  for (const source of [stored, others]) source.subscribe(follow)
  return trust
}
