// Whether a running injector may go on with what the Secret holds now. Every root that was trusted must still be, or have
// ended as the Secret's own record says: a Secret of another mesh, an old backup or a slip of the hand would end every
// connection, a rotation does not.
import type { FormerRoot } from '../../shared/ca/record.ts'
import { bundleOf, type CaMaterial } from './authority.ts'
import { fingerprintOf, recordOf } from './rotation.ts'

/** The roots, by fingerprint, that are missing without a word. */
export function unexplained(roots: readonly string[], next: CaMaterial): readonly string[] {
  const explained = new Set([
    ...bundleOf(next).map(fingerprintOf),
    ...recordOf(next).former.map(({ fingerprint }) => fingerprint),
  ])
  return roots.map(fingerprintOf).filter(fingerprint => !explained.has(fingerprint))
}

/**
 * The roots of `next`, by fingerprint, that are remembered as revoked or given up: a backup from before holds them still, and
 * sidecars take neither again.
 */
export function revived(former: readonly FormerRoot[], next: CaMaterial): readonly string[] {
  const over = former.filter(({ end }) => end !== 'retired')
  const trusted = bundleOf(next).map(fingerprintOf)
  return trusted.filter(root => over.some(({ fingerprint }) => fingerprint === root))
}
