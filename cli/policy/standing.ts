// On which of the sidecars that a policy binds it is in force, from what is known of each.
import type { SidecarReport, Unconnected } from '../../shared/control/sidecar-report.ts'
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { reaches } from '../../shared/policy/bind.ts'
import { nameOf, type PolicyDocument, type Selector } from '../../shared/policy/document.ts'

export type KnownSidecar = { readonly known: SidecarReport | Unconnected; readonly labels: Selector }

export type PolicyRow = {
  /** `<namespace>/<name>` */
  readonly policy: string
  readonly kind: string
  /** How many sidecars have it in force. */
  readonly applied: number
  readonly behind: readonly { readonly pod: string; readonly why: string }[]
}

export const rowsOf = (
  documents: readonly PolicyDocument[],
  sidecars: readonly KnownSidecar[],
): readonly PolicyRow[] => documents.map(document => rowOf(document, sidecars)).toSorted(byName)

const byName = (a: PolicyRow, b: PolicyRow): number =>
  a.policy < b.policy ? -1 : Number(a.policy > b.policy)

function rowOf(document: PolicyDocument, sidecars: readonly KnownSidecar[]): PolicyRow {
  const bound = sidecars.filter(({ known: { namespace }, labels }) =>
    reaches(document, { namespace, labels }, SYSTEM_NAMESPACE),
  )
  const behind = bound.flatMap(({ known }) => {
    const why = lagOf(known) ?? gapOf(known, document)
    return why === undefined ? [] : [{ pod: `${known.namespace}/${known.pod}`, why }]
  })
  return { policy: nameOf(document), kind: kindOf(document), applied: bound.length - behind.length, behind }
}

const kindOf = (document: PolicyDocument): string =>
  document.kind === 'AuthorizationPolicy'
    ? `${document.policy.action}${document.watched && document.policy.action !== 'AUDIT' ? ', dry run' : ''}`
    : document.kind

/** Why it may hold something older. Its connection to the injector is what tells it of changes. */
function lagOf(known: SidecarReport | Unconnected): string | undefined {
  if ('starting' in known) return known.starting ? 'it starts' : 'it is not connected, and keeps what it had'
  const { state } = known
  if (state === undefined) return `replica ${known.replica} of the injector does not say`
  return state.applied < state.version ? `it was told at ${state.toldAt} and has not confirmed` : undefined
}

function gapOf(known: SidecarReport | Unconnected, document: PolicyDocument): string | undefined {
  if (!('lacks' in known) || document.kind !== 'AuthorizationPolicy') return undefined
  const unknown = document.policy.features.find(feature => known.lacks?.includes(feature))
  if (unknown === undefined) return undefined
  return `version ${known.version} does not know ${unknown}${document.watched ? '' : ', and refuses what the policy covers'}`
}
