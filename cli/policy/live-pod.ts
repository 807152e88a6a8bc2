// What binds a pod of the cluster, read with the caller's own rights: its labels, its namespace's mode, the policies of both
// namespaces and what the injector was configured with. Bound as the injector binds it.
import type { V1ConfigMap, V1ConfigMapList, V1Deployment, V1Namespace, V1Pod } from '@kubernetes/client-node'
import { parse } from 'yaml'
import { PosternError } from '../../shared/errors.ts'
import { NAMESPACE_LABELS } from '../../shared/injection/annotations.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { INJECTOR_NAME, POLICY_LABEL, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { bind } from '../../shared/policy/bind.ts'
import { describeProblem, type PolicyDocument } from '../../shared/policy/document.ts'
import type { InboundMode, PolicySet } from '../../shared/policy/model.ts'
import { parsePolicyConfigMap } from '../../shared/policy/parse.ts'
import type { CommandContext } from '../command.ts'
import { TRUST_DOMAIN } from './cases.ts'
import type { Bound } from './explained.ts'

const CONFIG = 'postern-config'

/** @throws KubeError; PosternError PSTN_POLICY_INVALID where nobody can know from outside what is in force. */
export async function livePod(
  { kube, signal }: CommandContext,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Promise<Bound> {
  const api = await kube()
  const pod = await api.get<V1Pod>(`/api/v1/namespaces/${namespace}/pods/${name}`, signal)
  const { metadata } = await api.get<V1Namespace>(`/api/v1/namespaces/${namespace}`, signal)
  const written = metadata?.labels?.[NAMESPACE_LABELS.mode.key]
  const settings = await meshSettings(api, signal)
  const places = [...new Set([namespace, SYSTEM_NAMESPACE])]
  const documents = await Promise.all(places.map(place => policiesIn(api, place, signal)))
  const policy = bind(
    documents.flat(),
    { namespace, labels: pod.metadata?.labels ?? {} },
    {
      systemNamespace: SYSTEM_NAMESPACE,
      namespaceMode: written === undefined ? undefined : NAMESPACE_LABELS.mode.parse(written.trim()),
      meshMode: settings.mode,
      defaultAction: settings.defaultAction,
    },
  )
  return { policy, trustDomain: settings.trustDomain }
}

type MeshSettings = {
  readonly trustDomain: string
  readonly mode: InboundMode
  readonly defaultAction: PolicySet['defaultAction']
}

/** From the file that the injector's Deployment mounts: its name changes with its content. What is left out is the default. */
async function meshSettings(kube: Kube, signal: AbortSignal): Promise<MeshSettings> {
  const path = `/apis/apps/v1/namespaces/${SYSTEM_NAMESPACE}/deployments/${INJECTOR_NAME}`
  const { spec } = await kube.get<V1Deployment>(path, signal)
  const volumes = spec?.template.spec?.volumes ?? []
  const names = volumes.flatMap(({ configMap }) => configMap?.name ?? [])
  const config = names.find(name => name.startsWith(CONFIG))
  if (config === undefined)
    throw new PosternError('PSTN_CONFIG_INVALID', `the injector’s Deployment mounts no ConfigMap ${CONFIG}…`)
  const { data } = await kube.get<V1ConfigMap>(
    `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${config}`,
    signal,
  )
  const settings = Object.assign({}, ...Object.values(data ?? {}).map(text => Object(parse(text))))
  return {
    trustDomain: typeof settings.trustDomain === 'string' ? settings.trustDomain : TRUST_DOMAIN,
    mode: settings.defaultInboundMode === 'strict' ? 'strict' : 'permissive',
    defaultAction: settings.defaultAction === 'deny' ? 'deny' : 'allow',
  }
}

/** In the injector's order. */
async function policiesIn(kube: Kube, namespace: string, signal: AbortSignal): Promise<PolicyDocument[]> {
  const query = new URLSearchParams({ labelSelector: `${POLICY_LABEL}=true` })
  const path = `/api/v1/namespaces/${namespace}/configmaps?${query}`
  const { items } = await kube.get<V1ConfigMapList>(path, signal)
  const byName = (a: V1ConfigMap, b: V1ConfigMap) =>
    (a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1
  return items.toSorted(byName).flatMap(({ metadata, data, binaryData }) => {
    const parsed = parsePolicyConfigMap(
      { data, binaryData },
      { namespace, systemNamespace: SYSTEM_NAMESPACE },
    )
    if (parsed.kind === 'valid') return parsed.documents
    const [problem] = parsed.problems
    const why = problem ? describeProblem(problem) : 'it cannot be read'
    throw new PosternError(
      'PSTN_POLICY_INVALID',
      `the ConfigMap ${namespace}/${metadata?.name} is invalid, and its last valid version, if any, is in force, which only the injector knows: ${why}`,
    )
  })
}
