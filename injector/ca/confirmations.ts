// Which pods have not said yet that they trust the next root, and why. Each sidecar speaks for itself, over its control
// stream, through whichever replica it is connected to.
import type { Holder, SkippedPod } from '../../shared/ca/record.ts'
import type { UnconfirmedPod } from '../../shared/ca/status.ts'
import type { Gathered, SidecarReport } from '../../shared/control/sidecar-report.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'

type Pod = { readonly namespace: string; readonly podUid: string }
/** Whether a rotation need not wait for a pod, or for its certificate of this serial. */
export type Exempt = (pod: Pod, serial?: string) => boolean

/** Skipped by an operator, or revoked: then it is refused by everybody, whichever roots it trusts. */
export function exemption(
  skipped: readonly SkippedPod[],
  revoked: RevocationCheck,
  identityOf: (podUid: string) => SpiffeId | undefined,
): Exempt {
  return ({ namespace, podUid }, serial) => {
    if (skipped.some(({ pod, uid }) => uid === podUid || pod === `${namespace}/*`)) return true
    const identity = identityOf(podUid)
    return revoked({ podUid, ...(identity && { identity }), ...(serial && { serial }) }) !== undefined
  }
}

/**
 * A pod that has no address yet is not waited for: its sidecar has never run, and reads at its start what is published.
 * @param fingerprint of the next root
 */
export function unconfirmed(
  { reports, unconnected }: Gathered,
  fingerprint: string,
  isExempt: Exempt,
): readonly UnconfirmedPod[] {
  const lacking = reports.filter(({ roots }) => !roots.includes(fingerprint))
  const silent = unconnected.filter(({ starting }) => !starting)
  return [
    ...lacking
      .filter(pod => !isExempt(pod))
      .map(report => ({ pod: nameOf(report), reason: reasonOf(report) })),
    ...silent
      .filter(pod => !isExempt(pod))
      .map(pod => ({ pod: nameOf(pod), reason: `not connected${lastHeard(pod.last)}` })),
  ].sort((a, b) => (a.pod < b.pod ? -1 : 1))
}

/**
 * Of the certificates that sidecars have presented, the one that expires last. What a sidecar only says that it has is not
 * asked: a time that nobody can check would keep an old root as long as it likes. A certificate that came since its stream was
 * opened is no older than that stream, and so, unless less is allowed now than was then, within what the signer gives.
 */
export function longestPresented({ reports, unconnected }: Gathered, isExempt: Exempt): Holder | undefined {
  let last: Holder | undefined
  for (const report of [...reports, ...unconnected.flatMap(({ last }) => last ?? [])]) {
    const { certificate, podUid } = report
    if (!certificate?.presented || isExempt(report, certificate.serial)) continue
    if (last && Date.parse(certificate.notAfter) <= Date.parse(last.notAfter)) continue
    const { serial, notAfter } = certificate
    last = { pod: nameOf(report), uid: podUid, serial, notAfter }
  }
  return last
}

type Named = { readonly namespace: string; readonly pod: string }

export const nameOf = ({ namespace, pod }: Named): string => `${namespace}/${pod}`

function reasonOf({ roots, version }: SidecarReport): string {
  if (roots.length === 0) return `connected, but its sidecar (${version}) has not said which roots it trusts`
  return `its sidecar (${version}) has only ${roots.map(root => root.slice(0, 12)).join(', ')}`
}

const lastHeard = (last: SidecarReport | undefined): string => (last?.endedAt ? ` since ${last.endedAt}` : '')
