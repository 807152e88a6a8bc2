// Which pods have not said yet that they trust the next root, and why. Each sidecar speaks for itself, over its control
// stream, through whichever replica it is connected to.
import type { SkippedPod } from '../../shared/ca/record.ts'
import type { UnconfirmedPod } from '../../shared/ca/status.ts'
import type { Gathered, SidecarReport } from '../../shared/control/sidecar-report.ts'

/**
 * A pod that has no address yet is not waited for: its sidecar has never run, and reads at its start what is published.
 * @param fingerprint of the next root
 */
export function unconfirmed(
  { reports, unconnected }: Gathered,
  fingerprint: string,
  skipped: readonly SkippedPod[],
): readonly UnconfirmedPod[] {
  const isSkipped = ({ namespace, podUid }: { readonly namespace: string; readonly podUid: string }) =>
    skipped.some(({ pod, uid }) => uid === podUid || pod === `${namespace}/*`)
  const lacking = reports.filter(({ roots }) => !roots.includes(fingerprint))
  const silent = unconnected.filter(({ starting }) => !starting)
  return [
    ...lacking
      .filter(pod => !isSkipped(pod))
      .map(report => ({ pod: nameOf(report), reason: reasonOf(report) })),
    ...silent
      .filter(pod => !isSkipped(pod))
      .map(pod => ({ pod: nameOf(pod), reason: `not connected${lastHeard(pod.last)}` })),
  ].sort((a, b) => (a.pod < b.pod ? -1 : 1))
}

type Named = { readonly namespace: string; readonly pod: string }

export const nameOf = ({ namespace, pod }: Named): string => `${namespace}/${pod}`

function reasonOf({ roots, version }: SidecarReport): string {
  if (roots.length === 0) return `connected, but its sidecar (${version}) has not said which roots it trusts`
  return `its sidecar (${version}) has only ${roots.map(root => root.slice(0, 12)).join(', ')}`
}

const lastHeard = (last: SidecarReport | undefined): string => (last?.endedAt ? ` since ${last.endedAt}` : '')
