// By which roots a live connection may have been let in: those in force, and of those that were in force since this process
// began, the ones that were replaced in good order (docs/adr/0010). Nobody new comes in by the latter.
import { parseCertificate } from '../../shared/x509/certificate.ts'

/** To be called with each bundle, and with the fingerprints of roots that were retired by then. Gives the roots as PEM. */
export type VouchingRoots = (inForce: readonly string[], retired: readonly string[]) => readonly string[]

export function vouchingRoots(): VouchingRoots {
  const known = new Map<string, string>()
  return (inForce, retired) => {
    const present = inForce.map(root => [parseCertificate(root).fingerprint256, root] as const)
    const stays = new Set([...present.map(([fingerprint]) => fingerprint), ...retired])
    for (const fingerprint of known.keys()) if (!stays.has(fingerprint)) known.delete(fingerprint)
    for (const [fingerprint, root] of present) known.set(fingerprint, root)
    return [...known.values()]
  }
}
