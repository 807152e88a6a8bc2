// What became of roots that are trusted no more. It is told beside the roots, in the same message or object, so that nobody
// ever hears that a root is gone without hearing how: a connection that it vouched for ends or stays by that.
export type FormerRoots = {
  /** SHA-256 fingerprints (hex) of roots that were replaced in good order: connections that they vouched for may end in peace. */
  readonly retired: readonly string[]
  /** Of those that must not be trusted again, whoever brings them: an object or a replica that is behind holds them still. */
  readonly revoked: readonly string[]
}

const KEYS = { retired: 'retired-roots', revoked: 'revoked-roots' } as const
const FINGERPRINT = /^[0-9a-f]{64}$/

/** As texts of an object by key, each of which begins with `prefix`. */
export const writeFormer = ({ retired, revoked }: FormerRoots, prefix = ''): Record<string, string> => ({
  [prefix + KEYS.retired]: retired.join(','),
  [prefix + KEYS.revoked]: revoked.join(','),
})

/** Undefined where nothing is said, as by injectors of v0.1.0. What is no fingerprint is passed over. */
export function readFormer(
  texts: Readonly<Record<string, string>> = {},
  prefix = '',
): FormerRoots | undefined {
  const [retired, revoked] = [texts[prefix + KEYS.retired], texts[prefix + KEYS.revoked]]
  if (retired === undefined && revoked === undefined) return undefined
  return { retired: listed(retired), revoked: listed(revoked) }
}

const listed = (text = ''): readonly string[] => text.split(',').filter(entry => FINGERPRINT.test(entry))
