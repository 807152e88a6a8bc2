// Which of all policy documents hold for one pod. Pure: the injector calls it for each sidecar at each change, the CLI
// with files. Documents of the injector's namespace are mesh-wide.
import type { PeerAuthenticationDocument, PolicyDocument, Selector } from './document.ts'
import type { AuthorizationPolicy, EffectiveMode, InboundMode, PolicySet, TlsMode } from './model.ts'
import type { OutsideHost } from './outside-host.ts'
import type { RequestAuthentication } from './request-authentication.ts'

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
  const watched: AuthorizationPolicy[] = []
  const modes: PeerAuthenticationDocument[] = []
  for (const document of documents) {
    if (!reaches(document, pod, systemNamespace)) continue
    if (document.kind === 'AuthorizationPolicy') (document.watched ? watched : policies).push(document.policy)
    else if (document.kind === 'PeerAuthentication') modes.push(document)
  }
  policies.sort(byName)
  watched.sort(byName)
  const mode = effectiveMode(modes, context)
  return { mode, policies, ...(watched.length > 0 && { watched }), defaultAction }
}

/** The hosts outside the mesh that hold for one pod; of one address all that declare it, since none may win by chance. */
export function bindOutside(
  documents: readonly PolicyDocument[],
  pod: PodFacts,
  { systemNamespace }: Pick<BindContext, 'systemNamespace'>,
): readonly OutsideHost[] {
  return documents
    .filter(document => document.kind === 'OutsideHost')
    .filter(document => reaches(document, pod, systemNamespace))
    .map(({ outside }) => outside)
    .sort(byName)
}

/** Whose tokens requests to one pod may carry: all of them together, since they only add issuers. */
export function bindRequestAuthentication(
  documents: readonly PolicyDocument[],
  pod: PodFacts,
  { systemNamespace }: Pick<BindContext, 'systemNamespace'>,
): readonly RequestAuthentication[] {
  return documents
    .filter(document => document.kind === 'RequestAuthentication')
    .filter(document => reaches(document, pod, systemNamespace))
    .map(({ authentication }) => authentication)
    .sort(byName)
}

const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
  a.name < b.name ? -1 : Number(a.name > b.name)

/** Whether it holds for the pod, if nothing more specific does. */
export function reaches(document: PolicyDocument, pod: PodFacts, systemNamespace: string): boolean {
  const isNear = document.namespace === systemNamespace || document.namespace === pod.namespace
  return isNear && selects(document.selector, pod.labels)
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
  const tls = tlsPorts(workload)
  const ports: { [port: string]: InboundMode } = {}
  const named = workload.flatMap(document => Object.keys(document.ports))
  for (const port of new Set([...named, ...Object.keys(tls)])) {
    const mode = tls[port] ? 'strict' : strictest(workload.map(document => document.ports[port]))
    if (mode !== undefined && mode !== inbound) ports[port] = mode
  }
  return { inbound, ports, ...(Object.keys(tls).length > 0 && { tls }) }
}

/** STRICT asks for a certificate: said of the same port by another document, it makes `server` no less. */
function tlsPorts(workload: readonly PeerAuthenticationDocument[]): { readonly [port: string]: TlsMode } {
  const tls: { [port: string]: TlsMode } = {}
  for (const port of new Set(workload.flatMap(document => Object.keys(document.tls ?? {})))) {
    const isMutual = workload.some(
      document => document.tls?.[port] === 'mutual' || document.ports[port] === 'strict',
    )
    tls[port] = isMutual ? 'mutual' : 'server'
  }
  return tls
}

function strictest(modes: readonly (InboundMode | undefined)[]): InboundMode | undefined {
  return modes.includes('strict') ? 'strict' : modes.find(mode => mode !== undefined)
}
