// What a Service says that its ports speak, and what a pod calls its own: the two that are joined by name.
import type { V1Pod, V1Service } from '@kubernetes/client-node'
import type { Protocol } from '../../shared/protocol.ts'

/** A port of a Service that says what it speaks; `target` is a port of the pods by number or by name. */
export type Declaration = { readonly target: number | string; readonly protocol: Protocol | 'opaque' }

export type NamedPort = { readonly name: string; readonly port: number }

/** Kubernetes' own names, and those of IANA that say which HTTP it is. */
const BY_APP_PROTOCOL: ReadonlyMap<string, Protocol> = new Map([
  ['http', 'http1'],
  ['kubernetes.io/ws', 'http1'],
  ['kubernetes.io/h2c', 'http2'],
  ['grpc', 'http2'],
])

/** A port without `appProtocol` says nothing; one with any other says that the gate cannot read it. */
export const declarationsOf = ({ spec }: V1Service): Declaration[] =>
  (spec?.ports ?? []).flatMap(({ protocol: transport = 'TCP', port, targetPort, appProtocol }) =>
    transport === 'TCP' && appProtocol
      ? [{ target: targetPort || port, protocol: BY_APP_PROTOCOL.get(appProtocol) ?? 'opaque' }]
      : [],
  )

/** In the order in which Kubernetes looks a target port up: containers, then init containers that stay. */
export const namedPorts = ({ spec }: V1Pod): NamedPort[] =>
  [
    ...(spec?.containers ?? []),
    ...(spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always'),
  ]
    .flatMap(({ ports }) => ports ?? [])
    .flatMap(({ name, containerPort, protocol = 'TCP' }) =>
      name && protocol === 'TCP' ? [{ name, port: containerPort }] : [],
    )
