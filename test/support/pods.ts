// Pods as they arrive at admission, and what injection makes of them.
import type { V1Container, V1Pod, V1PodSpec } from '@kubernetes/client-node'
import { jsonPatch } from '../../embedded/cluster/patch.ts'
import { type Injection, type InjectionContext, inject } from '../../shared/injection/inject.ts'
import { type ProxySettings, parseProxySettings } from '../../shared/injection/settings.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'

export const CONTEXT: InjectionContext = {
  optIn: 'pod',
  mesh: {
    trustDomain: 'example.org',
    signerName: 'postern.dev/workload',
    controlAddress: 'postern-injector.postern-system.svc:15012',
    injectorIdentity: workloadSpiffeId({
      trustDomain: 'example.org',
      namespace: 'postern-system',
      serviceAccount: 'postern-injector',
    }),
  },
  sidecar: { image: 'postern-proxy:test', imagePullPolicy: 'IfNotPresent' },
  version: '0.1.0',
  random: 'Zm9vYmFy',
}

export type PodParts = {
  readonly annotations?: Record<string, string>
  readonly spec?: Partial<V1PodSpec>
  readonly container?: Partial<V1Container>
}

/** A pod of one container that opts in, with the given parts. */
export function pod({ annotations, spec, container }: PodParts = {}): V1Pod {
  return {
    metadata: {
      generateName: 'web-',
      namespace: 'shop',
      annotations: { 'postern.dev/inject': 'enabled', ...annotations },
    },
    spec: {
      serviceAccountName: 'web',
      ...spec,
      containers: spec?.containers ?? [{ name: 'app', image: 'app:1', ...container }],
    },
  }
}

/** The pod after the API server applied the patch; throws if it was not patched. */
export function patched(before: V1Pod, injection: Injection): V1Pod {
  if (injection.kind !== 'patch') throw new Error(`not patched: ${JSON.stringify(injection)}`)
  const asJson = (value: unknown) => JSON.parse(JSON.stringify(value))
  return asJson(jsonPatch(asJson(before), asJson(injection.patch)))
}

export const injectInto = (before: V1Pod, context: Partial<InjectionContext> = {}): V1Pod =>
  patched(before, inject(before, 'shop', { ...CONTEXT, ...context }))

export function containerOf(pod: V1Pod, name: string): V1Container {
  const all = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])]
  const found = all.find(container => container.name === name)
  if (!found) throw new Error(`no container ${name}`)
  return found
}

/** What the sidecar of an injected pod will read. */
export function settingsOf(pod: V1Pod): ProxySettings {
  const text = containerOf(pod, 'postern-proxy').env?.find(({ name }) => name === 'POSTERN_CONFIG')?.value
  return parseProxySettings(text ?? '')
}
