// A fresh cluster and one command: what is there afterwards, and that all of it works.
import type {
  V1ConfigMap,
  V1Deployment,
  V1MutatingWebhookConfiguration,
  V1NetworkPolicy,
  V1PodDisruptionBudget,
  V1PodList,
  V1ValidatingAdmissionPolicyList,
} from '@kubernetes/client-node'
import t from 'tap'
import { INJECTOR_NAME, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { requireCluster } from '../support/requirements.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { apply, appPod, checked, createNamespace, eventually, INJECTED, waitForPod } from './pods.ts'
import { DEPLOY, injectorPods, leaderOf, uninstallPostern, waitForPostern } from './postern.ts'
import { sidecarLog } from './sidecar.ts'

const skip = requireCluster()
const NS = 'install'
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await uninstallPostern(cluster)
  const namespace = await createNamespace(cluster, NS)
  t.teardown(() => namespace[Symbol.asyncDispose]())
})

const inSystem = (group: string, resource: string): string =>
  `/${group}/namespaces/${SYSTEM_NAMESPACE}/${resource}`

t.test('one `kubectl apply -k` brings two ready replicas and one leader', { skip }, async t => {
  const started = performance.now()
  const { code, stderr } = await cluster.kubectl(['apply', '-k', DEPLOY])
  t.equal(code, 0, stderr)
  t.equal(stderr, '', 'without a warning')
  await waitForPostern(cluster)
  t.comment(`in force after ${Math.round(performance.now() - started)} ms`)
  const deployment = await cluster.kube.get<V1Deployment>(
    inSystem('apis/apps/v1', `deployments/${INJECTOR_NAME}`),
  )
  t.equal(deployment.status?.readyReplicas, 2)
  t.comment(`leader: ${await leaderOf(cluster)}`)
  const leads: number[] = []
  for (const pod of await injectorPods(cluster)) {
    const path = inSystem('api/v1', `pods/${pod}:15014/proxy/metrics`)
    const metrics = await checked(cluster, ['get', '--raw', path])
    leads.push(Number(/^postern_leader (\d)$/m.exec(metrics)?.[1]))
  }
  t.same(leads.sort(), [0, 1], 'and the replicas agree on who that is')
})

t.test('the replicas have no more rights over their node than they need', { skip }, async t => {
  const { items } = await cluster.kube.get<V1PodList>(inSystem('api/v1', 'pods'))
  t.equal(items.length, 2)
  for (const { spec, status } of items) {
    t.match(spec?.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
    const [container] = spec?.containers ?? []
    t.match(container?.securityContext, {
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
    })
    t.equal(status?.containerStatuses?.[0]?.restartCount, 0)
  }
})

t.test('disruption budget, network policy, admission policies and webhooks are there', { skip }, async t => {
  const budget = () =>
    cluster.kube.get<V1PodDisruptionBudget>(
      inSystem('apis/policy/v1', `poddisruptionbudgets/${INJECTOR_NAME}`),
    )
  await eventually(async () => (await budget()).status?.disruptionsAllowed === 1, 'one may be disrupted')
  const network = await cluster.kube.get<V1NetworkPolicy>(
    inSystem('apis/networking.k8s.io/v1', `networkpolicies/${INJECTOR_NAME}`),
  )
  t.same(network.spec?.policyTypes, ['Ingress'])
  const { items } = await cluster.kube.get<V1ValidatingAdmissionPolicyList>(
    '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
  )
  const policies = items.map(({ metadata }) => metadata?.name).sort()
  t.same(policies, [
    'postern-capture',
    'postern-federation',
    'postern-injector',
    'postern-namespaces',
    'postern-pod-certificates',
    'postern-pods',
    'postern-policies',
    'postern-requests',
    'postern-revocations',
    'postern-sidecars',
    'postern-trust',
  ])
  const { webhooks = [] } = await cluster.kube.get<V1MutatingWebhookConfiguration>(
    `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${INJECTOR_NAME}`,
  )
  t.same(
    webhooks.map(({ name }) => name),
    ['pod.postern.dev', 'namespace.postern.dev'],
  )
  const trust = await cluster.kube.get<V1ConfigMap>(inSystem('api/v1', `configmaps/${TRUST_CONFIGMAP}`))
  for (const { clientConfig } of webhooks)
    t.equal(
      Buffer.from(clientConfig.caBundle ?? '', 'base64')
        .toString()
        .trim(),
      trust.data?.['roots.pem']?.trim(),
      'the API server trusts the root that sidecars trust',
    )
})

t.test('the leader ends, the other leads, and a new pod gets its certificate', { skip }, async t => {
  const before = await leaderOf(cluster)
  await checked(cluster, ['delete', 'pod', `--namespace=${SYSTEM_NAMESPACE}`, before ?? '', '--wait=false'])
  const started = performance.now()
  const changed = async () => {
    const now = await leaderOf(cluster)
    return now !== undefined && now !== before
  }
  await eventually(changed, 'another leader')
  t.comment(`another leads after ${Math.round(performance.now() - started)} ms`)
  await apply(cluster, appPod(NS, 'app', undefined, INJECTED))
  await waitForPod(cluster, NS, 'app')
  const issued = (await sidecarLog(cluster, NS, 'app')).find(({ msg }) => msg === 'certificate issued')
  t.ok(issued?.serial)
  t.comment(`ready with certificate ${issued?.serial} after ${Math.round(performance.now() - started)} ms`)
})
