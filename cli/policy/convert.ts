// `postern policy convert`: Istio's AuthorizationPolicy and PeerAuthentication as ConfigMaps of ours. All or nothing: policies
// that are converted without their neighbours would let in more than all of them together.
import { stringify } from 'yaml'
import { POLICY_LABEL } from '../../shared/names.ts'
import { describeProblem, type PolicyProblem } from '../../shared/policy/document.ts'
import { isObjectName } from '../../shared/policy/read-selector.ts'
import { parseConfigMap } from '../../shared/policy/yaml-documents.ts'
import { type Command, type CommandContext, UsageError } from '../command.ts'
import { TRUST_DOMAIN } from './cases.ts'
import { textsIn } from './files.ts'
import type { Origin } from './istio/original.ts'
import { type Converted, istioDocuments } from './istio/read.ts'
import { NAMESPACE, namespaceOf, trustDomainOf } from './options.ts'

const NAME = 'from-istio'
const ROOT = 'istio-system'

export const policyConvert: Command = {
  name: 'policy convert',
  usage: '<file|folder|->…',
  summary:
    'Prints Istio’s AuthorizationPolicy and PeerAuthentication as ConfigMaps of ours. 1: something has no equal, and nothing is printed.',
  options: {
    namespace: NAMESPACE,
    name: { type: 'string', help: `of the ConfigMaps; ${NAME}` },
    'root-namespace': { type: 'string', help: `Istio’s, whose policies are mesh-wide; ${ROOT}` },
    'trust-domain': { type: 'string', help: `ours; ${TRUST_DOMAIN}` },
  },
  run: async ({ args, options, out }) => {
    const { name, origin } = asked(args, options)
    const { converted, notes, problems } = convert(await textsIn(args), origin)
    const configMaps = problems.length > 0 ? [] : configMapsOf(converted, name)
    if (out.json) out.document({ configMaps, notes, problems })
    else {
      for (const line of [...notes, ...problems.map(describeProblem)]) out.note(line)
      for (const line of configMaps.map(written).join('---\n').split('\n').slice(0, -1)) out.line(line)
    }
    return problems.length > 0 ? 1 : 0
  },
}

const written = (configMap: ConfigMap): string => stringify(configMap)

/** @throws UsageError */
function asked(args: CommandContext['args'], options: CommandContext['options']) {
  if (args.length === 0) throw new UsageError('name at least one file or folder, or - for standard input')
  const { name = NAME, 'root-namespace': rootNamespace = ROOT } = options
  if (typeof name !== 'string' || !isObjectName(name))
    throw new UsageError('--name is no name of a ConfigMap')
  const origin: Origin = {
    namespace: namespaceOf(options),
    rootNamespace: namespaceOf({ namespace: rootNamespace }),
    trustDomain: trustDomainOf(options),
  }
  return { name, origin }
}

type Conversion = {
  readonly converted: readonly Converted[]
  readonly notes: readonly string[]
  readonly problems: readonly PolicyProblem[]
}

export function convert(
  texts: readonly { readonly file: string; readonly text: string }[],
  origin: Origin,
): Conversion {
  const parsed = texts.map(({ file, text }) =>
    parseConfigMap({ data: { [file]: text } }, istioDocuments(origin)),
  )
  const documents = parsed.flatMap(one => (one.kind === 'valid' ? one.documents : []))
  const converted = documents.flatMap(one => one.converted)
  const problems = parsed.flatMap(one => (one.kind === 'invalid' ? one.problems : []))
  if (problems.length === 0 && converted.length === 0)
    throw new UsageError('no policy of Istio’s in what was given')
  const names = converted.map(keyOf)
  const twice = names.find((key, index) => names.indexOf(key) !== index)
  if (twice) throw new UsageError(`${twice} is there twice`)
  const asksHttp = converted.some(({ yaml }) => HTTP.test(yaml))
  const notes = [...documents.flatMap(one => one.notes), ...(asksHttp ? [DECLARE] : [])]
  return { converted, notes, problems }
}

const HTTP = /^ +(- )?(not)?(methods|paths|hosts):|key: request\./im
const DECLARE =
  'methods, paths, hosts and headers are read on ports that are declared to speak HTTP: appProtocol, or postern.dev/http-ports'

const keyOf = ({ kind, namespace, name }: Converted): string => `${kind} ${namespace}/${name}`

/** Well below what one may hold. */
const MOST_CHARACTERS = 128 * 1024

type ConfigMap = {
  readonly apiVersion: 'v1'
  readonly kind: 'ConfigMap'
  readonly metadata: object
  readonly data: { [file: string]: string }
}

function configMapsOf(converted: readonly Converted[], name: string): readonly ConfigMap[] {
  const all: ConfigMap[] = []
  for (const [namespace, policies] of Map.groupBy(converted, one => one.namespace)) {
    let [size, count] = [Number.POSITIVE_INFINITY, 0]
    for (const policy of policies) {
      if (size + policy.yaml.length > MOST_CHARACTERS) {
        count += 1
        size = 0
        const metadata = {
          name: count === 1 ? name : `${name}-${count}`,
          namespace,
          labels: { [POLICY_LABEL]: 'true' },
        }
        all.push({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data: {} })
      }
      const last = all.at(-1)
      if (last) last.data[`${policy.kind.toLowerCase()}.${policy.name}.yaml`] = policy.yaml
      size += policy.yaml.length
    }
  }
  return all
}
