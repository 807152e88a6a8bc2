// A sidecar outside a pod: the same proxy, with a fixed table of listeners where a pod has nftables. A process of its own,
// configured by the environment that injection wrote into the pod; the table is its argument.

import {
  bind,
  type CaptureHandlers,
  type CaptureListener,
  type CaptureOptions,
} from '../proxy/accept/listeners.ts'
import { fixedDestinations } from '../proxy/accept/original-destination.ts'
import { startProxy } from '../proxy/app.ts'
import { readConfig } from '../proxy/config.ts'
import type { Listeners } from '../proxy/parts.ts'
import { authorityOf } from '../shared/addresses.ts'
import { systemClock } from '../shared/clock.ts'
import { createLogger } from '../shared/log.ts'
import { PORTS } from '../shared/ports.ts'
import { VERSION } from '../shared/version.ts'
import { endWithParent } from './with-parent.ts'

/** One listener that stands for a redirect: who connects to `port` wanted `destination`. */
export type FixedListener = {
  readonly port: number
  readonly destination: { readonly address: string; readonly port: number }
}

export type FixedListeners = {
  /** All of the pod's listeners are bound to this address. */
  readonly address: string
  readonly outbound: readonly FixedListener[]
  readonly inbound: readonly FixedListener[]
}

const MAX_CONNECTIONS = 1_000

function fixedListeners({ address, outbound, inbound }: FixedListeners): Listeners {
  const all = [...outbound, ...inbound]
  const table = new Map(all.map(({ port, destination }) => [authorityOf(address, port), destination]))
  const originalDestination = fixedDestinations(table)
  const listen = (listeners: readonly FixedListener[]) => async (handlers: CaptureHandlers) => {
    const options: CaptureOptions = { ...handlers, originalDestination, maxConnections: MAX_CONNECTIONS }
    return joined(await Promise.all(listeners.map(({ port }) => bind(address, port, options))))
  }
  return {
    outbound: listen(outbound),
    inbound: listen(inbound),
    tunnel: { host: address, port: PORTS.tunnel },
    status: { host: address, port: PORTS.status },
    localAddress: address,
    peerTunnelPort: PORTS.tunnel,
  }
}

function joined(listeners: readonly CaptureListener[]): CaptureListener {
  return {
    bound: listeners.flatMap(({ bound }) => bound),
    drain: async () => void (await Promise.all(listeners.map(listener => listener.drain()))),
    [Symbol.asyncDispose]: async () => void (await Promise.all(listeners.map(l => l[Symbol.asyncDispose]()))),
  }
}

if (import.meta.main) {
  endWithParent()
  const config = readConfig()
  const { settings, pod } = config
  await using proxy = await startProxy({
    config,
    listeners: fixedListeners(JSON.parse(process.argv[2] ?? '')),
    log: createLogger('proxy', settings.logLevel, { pod: pod.name, namespace: pod.namespace }),
    clock: systemClock,
    random: Math.random,
    version: VERSION,
  })
  const { promise: terminated, resolve } = Promise.withResolvers<void>()
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => resolve())
  await Promise.race([terminated, proxy.ended])
}
