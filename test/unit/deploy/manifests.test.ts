// The manifests are YAML and cannot import names: this holds them against the code.
import { readdir, readFile } from 'node:fs/promises'
import t from 'tap'
import { parse, parseAllDocuments } from 'yaml'
import { WEBHOOK_PATHS } from '../../../injector/webhook/routes.ts'
import {
  INJECTED_ANNOTATION,
  NAMESPACE_LABELS,
  POD_ANNOTATIONS,
} from '../../../shared/injection/annotations.ts'
import {
  CA_CONFIGMAP,
  CA_SECRET,
  CLUSTER_TRUST_BUNDLE,
  CSR_SLOTS,
  FEDERATION_LABEL,
  INJECT_KEY,
  INJECTOR_NAME,
  LEADER_LEASE,
  PARTNERS_CONFIGMAP,
  POLICY_LABEL,
  PROXY_CONTAINER,
  SERVING_SIGNER,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../../shared/names.ts'
import { INJECTOR_PORTS, PROXY_UID } from '../../../shared/ports.ts'

type Manifest = {
  kind: string
  metadata: { name: string; namespace?: string }
  [field: string]: unknown
}

const DEPLOY = new URL('../../../deploy/', import.meta.url)
const texts = new Map<string, string>()
for (const name of await readdir(new URL('manifests', DEPLOY)))
  texts.set(name, await readFile(new URL(`manifests/${name}`, DEPLOY), 'utf8'))
const manifests: Manifest[] = [...texts.values()].flatMap(text =>
  parseAllDocuments(text).map(document => document.toJS()),
)

const only = (kind: string, name: string): Manifest => {
  const found = manifests.filter(manifest => manifest.kind === kind && manifest.metadata.name === name)
  if (found.length !== 1 || !found[0]) throw new Error(`${found.length} manifests are ${kind} ${name}`)
  return found[0]
}

const textOf = (file: string): string => texts.get(file) ?? ''

type Rule = { resources: string[]; resourceNames?: string[]; verbs: string[] }
const rulesOf = (kind: string, name: string) => only(kind, name).rules as Rule[]

t.test('kustomization.yaml lists every manifest', async t => {
  const { resources } = parse(await readFile(new URL('kustomization.yaml', DEPLOY), 'utf8'))
  t.same(resources.sort(), [...texts.keys()].map(name => `manifests/${name}`).sort())
})

t.test('everything with a namespace is in ours', async t => {
  only('Namespace', SYSTEM_NAMESPACE)
  for (const { kind, metadata } of manifests)
    t.ok(
      metadata.namespace === undefined || metadata.namespace === SYSTEM_NAMESPACE,
      `${kind} ${metadata.name}`,
    )
})

t.test('the injector’s objects have its name', async t => {
  for (const kind of ['ServiceAccount', 'Service', 'Deployment', 'PodDisruptionBudget', 'NetworkPolicy'])
    t.equal(only(kind, INJECTOR_NAME).metadata.namespace, SYSTEM_NAMESPACE)
})

t.test('roles name the objects that the code reads and writes', async t => {
  only('ClusterRole', WORKLOAD_ROLE)
  const named = rulesOf('Role', INJECTOR_NAME).flatMap(({ resourceNames = [] }) => resourceNames)
  t.same(named, [CA_SECRET, TRUST_CONFIGMAP, CA_CONFIGMAP, PARTNERS_CONFIGMAP, LEADER_LEASE])
  const cluster = rulesOf('ClusterRole', INJECTOR_NAME).flatMap(({ resourceNames = [] }) => resourceNames)
  t.same(cluster, [WORKLOAD_SIGNER, CLUSTER_TRUST_BUNDLE, SERVING_SIGNER, INJECTOR_NAME, WORKLOAD_ROLE])
  t.same(rulesOf('Role', 'postern-trust-reader')[0]?.resourceNames, [TRUST_CONFIGMAP])
  const handed = rulesOf('ClusterRole', 'postern-serving-approver').flatMap(
    ({ resourceNames = [] }) => resourceNames,
  )
  t.same(handed, [SERVING_SIGNER])
})

t.test('no role has a wildcard', async t => {
  const roles = manifests.filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
  t.equal(roles.length, 8)
  for (const role of roles) t.notMatch(JSON.stringify(role.rules), '*')
})

t.test('the Service and the Deployment have the ports of the port table', async t => {
  const { spec } = only('Deployment', INJECTOR_NAME) as unknown as {
    spec: { template: { spec: { containers: { ports: { name: string; containerPort: number }[] }[] } } }
  }
  const ports = spec.template.spec.containers[0]?.ports.map(port => [port.name, port.containerPort])
  t.same(Object.fromEntries(ports ?? []), INJECTOR_PORTS)
  const policy = only('NetworkPolicy', INJECTOR_NAME) as unknown as {
    spec: { ingress: { ports: { port: number }[] }[] }
  }
  t.same(
    policy.spec.ingress[0]?.ports.map(({ port }) => port),
    Object.values(INJECTOR_PORTS),
  )
  t.match(textOf('injector.yaml'), `runAsUser: ${PROXY_UID}`)
})

t.test('the injector runs without privileges, and what guards it selects it', async t => {
  type Workload = {
    spec: {
      replicas: number
      template: { metadata: { labels: object }; spec: { securityContext: object; containers: object[] } }
    }
  }
  const { replicas, template } = (only('Deployment', INJECTOR_NAME) as unknown as Workload).spec
  t.equal(replicas, 2)
  t.match(template.spec.securityContext, {
    runAsNonRoot: true,
    runAsUser: PROXY_UID,
    seccompProfile: { type: 'RuntimeDefault' },
  })
  t.equal(template.spec.containers.length, 1)
  t.match(template.spec.containers[0], {
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
  })
  const selected = (kind: string, path: readonly string[]) =>
    path.reduce<unknown>((at, key) => Reflect.get(Object(at), key), only(kind, INJECTOR_NAME).spec)
  for (const [kind, ...path] of [
    ['Service', 'selector'],
    ['PodDisruptionBudget', 'selector', 'matchLabels'],
    ['NetworkPolicy', 'podSelector', 'matchLabels'],
  ] as const) {
    const labels = selected(kind, path)
    t.ok(Object.keys(Object(labels)).length > 0, `${kind} selects by label`)
    t.match(template.metadata.labels, Object(labels), kind)
  }
})

t.test('the webhooks are called where the injector answers', async t => {
  type Webhooks = { webhooks: { clientConfig: { service: object } }[] }
  const services = ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'].flatMap(kind =>
    (only(kind, INJECTOR_NAME) as unknown as Webhooks).webhooks.map(
      ({ clientConfig }) => clientConfig.service,
    ),
  )
  t.same(
    services,
    Object.values(WEBHOOK_PATHS).map(path => ({
      namespace: SYSTEM_NAMESPACE,
      name: INJECTOR_NAME,
      path,
      port: 443,
    })),
  )
  t.match(textOf('webhooks.yaml'), `'${INJECT_KEY}'`)
  t.match(textOf('webhooks.yaml'), `key: ${INJECT_KEY}`)
  t.match(textOf('webhooks.yaml'), `${POLICY_LABEL}: "true"`)
  t.match(textOf('webhooks.yaml'), `${FEDERATION_LABEL}: "true"`)
})

t.test('the admission policies check exactly the published keys', async t => {
  const quoted = (text: string) =>
    [...text.matchAll(/^ +'(postern\.dev\/[a-z0-9-]+)'[,\]]/gm)].map(match => match[1])
  const [pods = '', namespaces = ''] = textOf('admission-annotations.yaml').split('name: postern-namespaces')
  const keys = Object.values(POD_ANNOTATIONS).map(({ key }) => key)
  t.same(quoted(pods).sort(), [...keys, INJECTED_ANNOTATION].sort())
  t.same(
    quoted(namespaces).sort(),
    Object.values(NAMESPACE_LABELS)
      .map(({ key }) => key)
      .sort(),
  )
  t.match(pods, `container.name == '${PROXY_CONTAINER}'`)
  t.match(namespaces, `'${NAMESPACE_LABELS.mode.key}'`)
})

t.test('the admission policies name signer, slots, label and service account as the code does', async t => {
  const requests = textOf('admission-requests.yaml')
  t.match(requests, `'${WORKLOAD_SIGNER}'`)
  t.match(requests, `[${Array.from({ length: CSR_SLOTS }, (_, slot) => `'${slot}'`).join(', ')}]`)
  t.match(textOf('admission-policies.yaml'), `labels[?'${POLICY_LABEL}']`)
  t.match(textOf('federation.yaml'), `labels[?'${FEDERATION_LABEL}']`)
  t.match(textOf('admission-injector.yaml'), `'system:serviceaccount:${SYSTEM_NAMESPACE}:${INJECTOR_NAME}'`)
  t.match(textOf('admission-injector.yaml'), `'${WORKLOAD_ROLE}:'`)
  t.match(textOf('admission-injector.yaml'), `substring(${'system:serviceaccounts:'.length})`)
})
