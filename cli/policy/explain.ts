// `postern policy explain`: why one request is let in or refused, rule by rule, by policies in files or by those that bind a
// pod of the cluster.
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { bind } from '../../shared/policy/bind.ts'
import { describeProblem } from '../../shared/policy/document.ts'
import { type Command, type CommandContext, UsageError } from '../command.ts'
import { CALL_OPTIONS, callOf, pairs } from './call-options.ts'
import { TRUST_DOMAIN } from './cases.ts'
import { showExplanation } from './explain-text.ts'
import { type Bound, explained } from './explained.ts'
import { readPolicyFiles } from './files.ts'
import { livePod } from './live-pod.ts'
import { NAMESPACE, namespaceOf, oneOf, trustDomainOf } from './options.ts'

export const policyExplain: Command = {
  name: 'policy explain',
  usage: '[<namespace>/<pod>] --from … --port …',
  summary: 'Says rule by rule why a request to a pod is let in or refused: of a cluster, or by --files.',
  options: {
    files: { type: 'string', multiple: true, help: 'policies in a file or folder, in place of a cluster' },
    namespace: { ...NAMESPACE, help: 'with --files: of the pod, and of policies that name none; default' },
    label: { type: 'string', multiple: true, help: 'with --files: <name>=<value> of the pod' },
    'trust-domain': { type: 'string', help: `with --files: ours; ${TRUST_DOMAIN}` },
    'default-action': { type: 'string', help: 'with --files: allow or deny; allow' },
    mode: { type: 'string', help: 'with --files: permissive or strict; permissive' },
    ...CALL_OPTIONS,
  },
  run: async context => {
    const { options, out } = context
    const bound = options.files === undefined ? await fromCluster(context) : await fromFiles(context)
    const answer = explained(bound, callOf(options, bound.trustDomain))
    if (out.json) out.document(answer)
    else showExplanation(out, answer)
    return 0
  },
}

/** @throws UsageError */
function fromCluster(context: CommandContext): Promise<Bound> {
  const { args, options } = context
  const [namespace, pod, ...rest] = (args[0] ?? '').split('/')
  if (args.length !== 1 || !namespace || !pod || rest.length > 0)
    throw new UsageError('name one <namespace>/<pod>, or give --files')
  const stray = FOR_FILES.find(name => options[name] !== undefined)
  if (stray) throw new UsageError(`--${stray} belongs to --files: the cluster says it`)
  return livePod(context, { namespace, name: pod })
}

const FOR_FILES = ['namespace', 'label', 'trust-domain', 'default-action', 'mode']

async function fromFiles({ args, options }: CommandContext): Promise<Bound> {
  if (args.length > 0) throw new UsageError(`--files and the pod ${args[0]} at once: leave one out`)
  const namespace = namespaceOf(options)
  const files = [options.files ?? []].flat().map(String)
  const { documents, problems } = await readPolicyFiles(files, namespace)
  if (problems.length > 0) throw new UsageError(problems.map(describeProblem).join('\n'))
  const labels = pairs('label', options.label)
  const trustDomain = trustDomainOf(options)
  const policy = bind(
    documents,
    { namespace, labels },
    {
      systemNamespace: SYSTEM_NAMESPACE,
      meshMode: oneOf(options, 'mode', ['permissive', 'strict']),
      defaultAction: oneOf(options, 'default-action', ['allow', 'deny']),
    },
  )
  return { policy, trustDomain }
}
