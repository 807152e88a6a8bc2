// Kubernetes Events: what the injector tells on an object of the cluster, where its author looks for what is wrong with it.
// Best effort: nobody waits for one, and nothing fails with it.
import type { CoreV1Event, V1ObjectReference } from '@kubernetes/client-node'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { INJECTOR_NAME } from '../../shared/names.ts'

/** As on the wire, where times are text. */
export type KubeEvent = Omit<CoreV1Event, 'metadata' | 'firstTimestamp' | 'lastTimestamp' | 'eventTime'> & {
  readonly metadata: { readonly namespace: string; readonly name?: string; readonly generateName?: string }
  readonly firstTimestamp: string
  readonly lastTimestamp: string
}

export type Told = {
  readonly type: 'Normal' | 'Warning'
  /** In one word, as `kubectl` shows it. */
  readonly reason: string
  readonly message: string
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Where several replicas would tell the same: the second is refused. */
  readonly name?: string
  /** The replica that tells it. */
  readonly host?: string
}

/** `uid`: of a pod, since a StatefulSet’s next one has the same name. */
export type Involved = V1ObjectReference & { readonly kind: string; readonly namespace: string }

/** The API server refuses longer ones. */
const MAX_MESSAGE = 1024

export function eventOn(object: Involved, { type, reason, message, now, name, host }: Told): KubeEvent {
  const { namespace } = object
  const time = new Date(now).toISOString()
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: name === undefined ? { generateName: 'postern-', namespace } : { name, namespace },
    involvedObject: { apiVersion: 'v1', ...object },
    type,
    reason,
    message: message.slice(0, MAX_MESSAGE),
    source: { component: INJECTOR_NAME, ...(host !== undefined && { host }) },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  }
}

export type EventWriter = {
  readonly kube: Kube
  readonly log: Logger
  /** Ends writing. */
  readonly signal: AbortSignal
}

/** Never rejects. False: it is not there. */
export async function writeEvent({ kube, log, signal }: EventWriter, event: KubeEvent): Promise<boolean> {
  try {
    await kube.create(`/api/v1/namespaces/${event.metadata.namespace}/events`, event, signal)
    return true
  } catch (thrown) {
    // Another replica has written it.
    if (isKubeError(thrown, 409)) return true
    log.debug(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'event not written')
    return false
  }
}
