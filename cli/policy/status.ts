// `postern policy status`: on how many of the sidecars that it binds each policy is in force, and where it is not. The injector
// says what each sidecar has applied, the API server what is written and which pods there are.
import type { V1ConfigMap, V1ConfigMapList, V1PodList } from '@kubernetes/client-node'
import { decodeGathered, type Gathered } from '../../shared/control/sidecar-report.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { POLICY_LABEL, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { describeProblem, type PolicyDocument } from '../../shared/policy/document.ts'
import { parsePolicyConfigMap } from '../../shared/policy/parse.ts'
import { type Command, UsageError } from '../command.ts'
import { connectInjector, INJECTOR_OPTION } from '../injector.ts'
import type { Output } from '../output.ts'
import { namespaceOf } from './options.ts'
import { type PolicyRow, rowsOf } from './standing.ts'

export const policyStatus: Command = {
  name: 'policy status',
  summary:
    'Shows on how many sidecars each policy is in force. 1: somewhere it is not, or one cannot be read.',
  options: {
    namespace: { type: 'string', help: 'policies and pods of this namespace, and what is mesh-wide' },
    injector: INJECTOR_OPTION,
  },
  run: async context => {
    const { args, options, out, signal } = context
    if (args.length > 0)
      throw new UsageError(`policy status takes no ${JSON.stringify(args[0])}; --namespace narrows it`)
    const within = options.namespace === undefined ? undefined : namespaceOf(options)
    const injector = await connectInjector(context)
    const gathered = decodeGathered(await injector.ask('/sidecars'), 'sidecars')
    const kube = await context.kube()
    const { documents, problems } = await written(kube, within, signal)
    const rows = rowsOf(documents, await sidecars(kube, gathered, within, signal))
    const { missing } = gathered
    if (out.json) out.document({ policies: rows, problems, missing })
    else show(out, rows, problems, gathered)
    const isEverywhere = rows.every(({ behind }) => behind.length === 0)
    return isEverywhere && problems.length === 0 && missing.length === 0 ? 0 : 1
  },
}

type Written = { readonly documents: readonly PolicyDocument[]; readonly problems: readonly string[] }

async function written(kube: Kube, within: string | undefined, signal: AbortSignal): Promise<Written> {
  const query = new URLSearchParams({ labelSelector: `${POLICY_LABEL}=true` })
  const places = within === undefined ? [''] : [...new Set([within, SYSTEM_NAMESPACE])].map(inNamespace)
  const lists = await Promise.all(
    places.map(place => kube.get<V1ConfigMapList>(`/api/v1${place}/configmaps?${query}`, signal)),
  )
  const read = lists.flatMap(({ items }) => items).map(readOne)
  return {
    documents: read.flatMap(({ documents }) => documents),
    problems: read.flatMap(({ problems }) => problems),
  }
}

const inNamespace = (namespace: string): string => `/namespaces/${namespace}`

function readOne({ metadata, data, binaryData }: V1ConfigMap): Written {
  const { name = '', namespace = '' } = metadata ?? {}
  const parsed = parsePolicyConfigMap({ data, binaryData }, { namespace, systemNamespace: SYSTEM_NAMESPACE })
  if (parsed.kind === 'valid') return { documents: parsed.documents, problems: [] }
  return {
    documents: [],
    problems: parsed.problems.map(problem => `${namespace}/${name}: ${describeProblem(problem)}`),
  }
}

/** What the injector knows of each, with the labels of its pod: one that has gone since is left out. */
async function sidecars(kube: Kube, gathered: Gathered, within: string | undefined, signal: AbortSignal) {
  const place = within === undefined ? '' : inNamespace(within)
  const { items } = await kube.get<V1PodList>(`/api/v1${place}/pods`, signal)
  const labels = new Map(items.map(({ metadata }) => [metadata?.uid ?? '', metadata?.labels ?? {}]))
  return [...gathered.reports, ...gathered.unconnected].flatMap(known => {
    const found = labels.get(known.podUid)
    return found ? [{ known, labels: found }] : []
  })
}

const MOST_LINES = 20

function show(
  out: Output,
  rows: readonly PolicyRow[],
  problems: readonly string[],
  { missing }: Gathered,
): void {
  if (rows.length === 0) out.line('there are no policies')
  else
    out.table(
      ['POLICY', 'KIND', 'IN FORCE ON'],
      rows.map(({ policy, kind, applied, behind }) => [
        policy,
        kind,
        `${applied} of ${applied + behind.length} sidecars`,
      ]),
    )
  const lines = rows.flatMap(({ policy, behind }) =>
    behind.map(({ pod, why }) => `${policy}: not on ${pod}: ${why}`),
  )
  for (const line of lines.slice(0, MOST_LINES)) out.line(line)
  if (lines.length > MOST_LINES) out.line(`and ${lines.length - MOST_LINES} more; --json prints all`)
  for (const problem of problems) out.line(`not in force as written: ${problem}`)
  for (const { replica, reason } of missing)
    out.line(`replica ${replica} did not answer (${reason}): its sidecars look as if they were not connected`)
}
