// A Warning on an object of the cluster, where its author looks for what is wrong with it.
import type { CoreV1Event } from '@kubernetes/client-node'
import { INJECTOR_NAME } from '../../shared/names.ts'

/** The API server refuses longer ones. */
const MAX_MESSAGE = 1024

export type WarningEvent = Omit<CoreV1Event, 'firstTimestamp' | 'lastTimestamp'> & {
  readonly firstTimestamp: string
  readonly lastTimestamp: string
}

export type Warned = {
  readonly kind: 'ConfigMap' | 'Service' | 'Pod'
  readonly namespace: string
  readonly name: string
  /** Of a pod: a StatefulSet’s next one has the same name. */
  readonly uid?: string
}

export function warningEvent(
  { kind, namespace, name, uid }: Warned,
  reason: string,
  message: string,
  now: number,
): WarningEvent {
  const time = new Date(now).toISOString()
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { generateName: 'postern-', namespace },
    involvedObject: { apiVersion: 'v1', kind, name, namespace, ...(uid && { uid }) },
    type: 'Warning',
    reason,
    message: message.slice(0, MAX_MESSAGE),
    source: { component: INJECTOR_NAME },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  }
}
