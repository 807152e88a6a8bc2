// The few API resources that the sidecar and the injector use, and how a request path names one.

export type Resource = {
  readonly plural: string
  readonly kind: string
  readonly group: string
  readonly version: string
  readonly namespaced: boolean
}

const resource = (kind: string, plural: string, groupVersion: string, namespaced: boolean): Resource => {
  const [group = '', version = ''] = groupVersion.includes('/') ? groupVersion.split('/') : ['', groupVersion]
  return { kind, plural, group, version, namespaced }
}

const RESOURCES: readonly Resource[] = [
  resource('Namespace', 'namespaces', 'v1', false),
  resource('Node', 'nodes', 'v1', false),
  resource('Pod', 'pods', 'v1', true),
  resource('Service', 'services', 'v1', true),
  resource('ConfigMap', 'configmaps', 'v1', true),
  resource('Secret', 'secrets', 'v1', true),
  resource('ServiceAccount', 'serviceaccounts', 'v1', true),
  resource('Event', 'events', 'v1', true),
  resource('Event', 'events', 'events.k8s.io/v1', true),
  resource('EndpointSlice', 'endpointslices', 'discovery.k8s.io/v1', true),
  resource('ServiceCIDR', 'servicecidrs', 'networking.k8s.io/v1', false),
  resource('Lease', 'leases', 'coordination.k8s.io/v1', true),
  resource('CertificateSigningRequest', 'certificatesigningrequests', 'certificates.k8s.io/v1', false),
  resource('ClusterRoleBinding', 'clusterrolebindings', 'rbac.authorization.k8s.io/v1', false),
  resource(
    'MutatingWebhookConfiguration',
    'mutatingwebhookconfigurations',
    'admissionregistration.k8s.io/v1',
    false,
  ),
  resource(
    'ValidatingWebhookConfiguration',
    'validatingwebhookconfigurations',
    'admissionregistration.k8s.io/v1',
    false,
  ),
]

export type Target = {
  readonly resource: Resource
  readonly namespace?: string
  readonly name?: string
  readonly subresource?: string
}

/** The resource that an API path names, or undefined. */
export function parsePath(path: string): Target | undefined {
  const parts = path
    .split('/')
    .filter(part => part !== '')
    .map(decodeURIComponent)
  const root = parts.shift()
  const group = root === 'apis' ? (parts.shift() ?? '') : ''
  const version = parts.shift()
  if ((root !== 'api' && root !== 'apis') || !version) return undefined
  const scoped = parts[0] === 'namespaces' && parts.length >= 3 && isNamespaced(parts[2])
  const namespace = scoped ? parts[1] : undefined
  const [plural, name, subresource, ...rest] = scoped ? parts.slice(2) : parts
  const found = RESOURCES.find(r => r.plural === plural && r.group === group && r.version === version)
  if (!found || rest.length > 0) return undefined
  return {
    resource: found,
    ...(namespace && { namespace }),
    ...(name && { name }),
    ...(subresource && { subresource }),
  }
}

const isNamespaced = (plural: string | undefined) => RESOURCES.some(r => r.namespaced && r.plural === plural)

export const apiVersion = ({ group, version }: Resource): string => (group ? `${group}/${version}` : version)
