// Which of all policy documents hold for one pod. Pure: the injector calls it for each sidecar at each change, the CLI
// with files. Documents of the injector's namespace are mesh-wide.
import type { PeerAuthenticationDocument, PolicyDocument, Selector } from './document.ts'
import type { AuthorizationPolicy, EffectiveMode, InboundMode, PolicySet } from './model.ts'

/** What a document's selector can see of a pod. */
export type PodFacts = { readonly namespace: string; readonly labels: Selector }

export type BindContext = {
  readonly systemNamespace: string
  /** The label postern.dev/mode of the pod's namespace. */
  readonly namespaceMode?: InboundMode | undefined
  /** What the injector's configuration says where nobody else does. */
  readonly meshMode?: InboundMode
  readonly defaultAction?: PolicySet['defaultAction']
}

export function bind(documents: readonly PolicyDocument[], pod: PodFacts, context: BindContext): PolicySet {
  const { systemNamespace, defaultAction = 'allow' } = context
  const policies: AuthorizationPolicy[] = []
  const modes: PeerAuthenticationDocument[] = []
  for (const document of documents) {
    const meshWide = document.namespace === systemNamespace
    if ((!meshWide && document.namespace !== pod.namespace) || !selects(document.selector, pod.labels))
      continue
    if (document.kind === 'AuthorizationPolicy') policies.push(document.policy)
    else modes.push(document)
  }
  policies.sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)))
  return { mode: effectiveMode(modes, context), policies, defaultAction }
}

export function selects(selector: Selector | undefined, labels: Selector): boolean {
  return selector === undefined || Object.entries(selector).every(([key, value]) => labels[key] === value)
}

/** Workload before namespace before the namespace's label before the mesh; among equals the stricter. */
function effectiveMode(
  modes: readonly PeerAuthenticationDocument[],
  { systemNamespace, namespaceMode, meshMode = 'permissive' }: BindContext,
): EffectiveMode {
  const workload = modes.filter(({ selector }) => selector !== undefined)
  const wide = modes.filter(({ selector }) => selector === undefined)
  const ofNamespace = wide.filter(({ namespace }) => namespace !== systemNamespace)
  const ofMesh = wide.filter(({ namespace }) => namespace === systemNamespace)
  const inbound =
    strictest(workload.map(({ mode }) => mode)) ??
    strictest(ofNamespace.map(({ mode }) => mode)) ??
    namespaceMode ??
    strictest(ofMesh.map(({ mode }) => mode)) ??
    meshMode
  const ports: { [port: string]: InboundMode } = {}
  for (const port of new Set(workload.flatMap(document => Object.keys(document.ports)))) {
    const mode = strictest(workload.map(document => document.ports[port]))
    if (mode !== undefined && mode !== inbound) ports[port] = mode
  }
  return { inbound, ports }
}

function strictest(modes: readonly (InboundMode | undefined)[]): InboundMode | undefined {
  return modes.includes('strict') ? 'strict' : modes.find(mode => mode !== undefined)
}
