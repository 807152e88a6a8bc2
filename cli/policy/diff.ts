// `postern policy diff`: what a change of policies would newly let in or keep out. Both versions decide on a representative of
// everything that their patterns tell apart, so that what is not found is not there, as long as nothing was sampled.
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { type BindContext, bind } from '../../shared/policy/bind.ts'
import { describeProblem, type PolicyDocument } from '../../shared/policy/document.ts'
import { type Command, UsageError } from '../command.ts'
import type { Output } from '../output.ts'
import { TRUST_DOMAIN } from './cases.ts'
import { type Comparison, compare, type Difference } from './diff/compare.ts'
import { podsOf } from './diff/pods.ts'
import { readPolicyFiles } from './files.ts'
import { NAMESPACE, namespaceOf, oneOf, trustDomainOf } from './options.ts'

export const policyDiff: Command = {
  name: 'policy diff',
  usage: '<old> <new>',
  summary:
    'Says what a change of policies in files or folders would newly allow or deny. 1: --fail-on-allow, and it allows something.',
  options: {
    namespace: NAMESPACE,
    'fail-on-allow': { type: 'boolean', help: 'exit code 1 if something is newly allowed' },
    'trust-domain': { type: 'string', help: `ours; ${TRUST_DOMAIN}` },
    'default-action': { type: 'string', help: 'of the mesh: allow or deny; allow' },
    mode: { type: 'string', help: 'of the mesh: permissive or strict; permissive' },
  },
  run: async ({ args, options, out }) => {
    const [before, after, ...rest] = args
    if (before === undefined || after === undefined || rest.length > 0)
      throw new UsageError('name two files or folders: the old version and the new one')
    const namespace = namespaceOf(options)
    const context = {
      systemNamespace: SYSTEM_NAMESPACE,
      meshMode: oneOf(options, 'mode', ['permissive', 'strict']),
      defaultAction: oneOf(options, 'default-action', ['allow', 'deny']),
    }
    const read = async (path: string) => documentsIn(path, namespace)
    const found = differ(await read(before), await read(after), context, trustDomainOf(options))
    if (out.json) out.document(found)
    else show(out, found)
    const allows = found.pods.some(({ differences }) => differences.some(isAllowing))
    return options['fail-on-allow'] && allows ? 1 : 0
  },
}

const isAllowing = ({ change }: Difference): boolean => change === 'newly allowed'

/** @throws UsageError */
async function documentsIn(path: string, namespace: string): Promise<readonly PolicyDocument[]> {
  const { documents, problems } = await readPolicyFiles([path], namespace)
  if (problems.length > 0) throw new UsageError(problems.map(describeProblem).join('\n'))
  return documents
}

export type Found = {
  /** Those for which something is decided otherwise. */
  readonly pods: readonly (Comparison & { readonly pods: string })[]
  readonly requests: number
  readonly sampled: boolean
}

export function differ(
  before: readonly PolicyDocument[],
  after: readonly PolicyDocument[],
  context: BindContext,
  trustDomain: string,
): Found {
  const { pods, complete } = podsOf([...before, ...after], context.systemNamespace)
  const compared = pods.map(pod => {
    const sets = [bind(before, pod, context), bind(after, pod, context)] as const
    return { pods: pod.label, ...compare(...sets, { trustDomain }) }
  })
  return {
    pods: compared.filter(({ differences }) => differences.length > 0),
    requests: compared.reduce((sum, { requests }) => sum + requests, 0),
    sampled: !complete || compared.some(({ sampled }) => sampled),
  }
}

const MOST_LINES = 50

function show(out: Output, { pods, requests, sampled }: Found): void {
  for (const { pods: label, differences } of pods) {
    out.line(`${label}:`)
    for (const difference of differences.slice(0, MOST_LINES))
      out.line(`  ${difference.change}: ${inWords(difference)}`)
    const more = differences.length - MOST_LINES
    if (more > 0) out.line(`  and ${more} more; --json prints all`)
  }
  const bound = sampled ? ', which are a sample: a difference may have been missed' : ''
  const found = pods.length === 0 ? 'no difference found' : 'compared'
  out.line(`${found} among ${requests} representative requests${bound}`)
}

const MOST_VALUES = 4

export function inWords({ opaque, where }: Difference): string {
  const { caller = ['anybody'], ...rest } = where
  const others = Object.entries(rest).map(([axis, values]) =>
    axis === 'user' || axis.startsWith('header ') ? listed(values) : `${axis} ${listed(values)}`,
  )
  const what = opaque ? 'opaque bytes' : 'requests'
  return [listed(caller), what, ...others].join(', ')
}

const listed = (values: readonly string[]): string => {
  const more = values.length - MOST_VALUES
  return values.slice(0, MOST_VALUES).join(' | ') + (more > 0 ? ` | ${more} more` : '')
}
