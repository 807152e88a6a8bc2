// Our own bundle as partners fetch it. Every replica says the same of the same roots: what it says comes from the CA's Secret.
import { derived, type Live } from '../../shared/live.ts'
import { writeSpiffeBundle } from '../../shared/spiffe-bundle.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import type { CaMaterial } from '../ca/authority.ts'
import { recordOf } from '../ca/rotation.ts'
import type { StoredCa } from '../ca/store.ts'

/**
 * Milliseconds that a next root is published before it signs: SPIFFE Federation recommends three to five hints (section 4.1),
 * so that a partner may miss one or two.
 */
export const partnersSettleMs = (refreshHintSeconds: number): number => 3 * refreshHintSeconds * 1000

/**
 * Milliseconds of the CA's last step: it grows with each change of its roots. Another signer's roots (trustRootsFile) change
 * without one, and then there is none: the standard lets it be left out.
 */
export function sequenceOf(material: CaMaterial): bigint {
  const { rotation, former } = recordOf(material)
  const began = parseCertificate(material.root.certificate).notBefore.toISOString()
  const times = [began, rotation?.began, rotation?.switched, ...former.map(({ at }) => at)]
  return BigInt(Math.max(...times.flatMap(time => (time === undefined ? [] : [Date.parse(time)]))))
}

/** The text that is served: made once at each change, since anybody may ask. */
export const ownBundle = (
  trust: Live<TrustBundle>,
  stored: Live<StoredCa>,
  others: Live<readonly string[]>,
  refreshHintSeconds: number,
): Live<string> =>
  derived([trust, stored], () =>
    writeSpiffeBundle({
      ...trust.get(),
      refreshHintSeconds,
      ...(others.get().length === 0 && { sequence: sequenceOf(stored.get().material) }),
    }),
  )
