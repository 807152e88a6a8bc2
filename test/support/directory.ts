// What an injector knows of a cluster that is not there, and what it tells the sidecar of the pod `web` of it.
import type { V1Pod } from '@kubernetes/client-node'
import { createOutbox, type OutboxOptions } from '../../injector/control/outbox.ts'
import { createDirectory, type Directory, type DirectoryOptions } from '../../injector/directory/directory.ts'
import type { WorldSettings } from '../../injector/directory/world.ts'
import { systemClock } from '../../shared/clock.ts'
import { type FromInjector, KNOWN_FEATURES } from '../../shared/control/messages.ts'
import { createLogger } from '../../shared/log.ts'
import { node, pod } from './cluster-objects.ts'
import { federationOf } from './federation.ts'
import { revocationsOf } from './revocations.ts'

export const WORLD_SETTINGS: WorldSettings = {
  trustDomain: 'cluster.local',
  systemNamespace: 'postern-system',
  meshMode: 'permissive',
  defaultAction: 'allow',
  prefixes: [],
}

type Parts = Partial<Omit<DirectoryOptions, 'settings'>> & { readonly web?: V1Pod }

/** It knows a node with 10.1.0.0/16 for its pods, and the pod `web`. */
export function directoryOf({ web = pod('web', { ips: ['10.1.0.1'] }), ...options }: Parts = {}): Directory {
  const directory = createDirectory({
    settings: WORLD_SETTINGS,
    clock: systemClock,
    log: createLogger('test', 'error'),
    signal: new AbortController().signal,
    ...options,
  })
  directory.feed({ kind: 'set', resource: 'nodes', object: node('node-1', { podCidrs: ['10.1.0.0/16'] }) })
  directory.feed({ kind: 'set', resource: 'pods', object: web })
  return directory
}

/** What goes to the sidecar of `web` is pushed to `sent`. */
export const outboxTo = (
  sent: FromInjector[],
  { world }: Directory,
  options: Partial<
    Pick<OutboxOptions, 'features' | 'trust' | 'revocations' | 'federation' | 'onTlsPortsClosed'>
  > = {},
) =>
  createOutbox({
    world,
    podUid: 'uid-web',
    features: KNOWN_FEATURES,
    trust: () => ({ trustDomain: 'cluster.local', roots: [] }),
    revocations: revocationsOf(),
    federation: federationOf(),
    send: message => sent.push(message),
    ...options,
  })
