// Says where Services disagree about what a port of their pods speaks. The port carries opaque bytes then, which whoever
// wrote a policy about its requests would not notice: nothing is refused that was not before, but nothing is read.
import type { Clock } from '../../shared/clock.ts'
import { type EventWriter, eventOn, writeEvent } from '../events/event.ts'
import { disputedPorts, type Said } from './protocols.ts'
import type { PodRecord } from './records.ts'
import type { Changes, World } from './world.ts'

export type Dispute = {
  readonly namespace: string
  readonly port: number
  /** By the name of the Service. */
  readonly said: readonly Said[]
}

/** Disputes at once, and Services of one: whoever makes more of them has got the message. */
const MOST_TOLD = 20

/** The same of several pods once. */
export function disputesOf(world: World, pods: readonly PodRecord[]): Map<string, Dispute> {
  const disputes = new Map<string, Dispute>()
  for (const pod of pods.filter(({ live, mesh }) => live && mesh)) {
    const { namespace } = pod
    for (const [port, said] of disputedPorts(world, pod)) {
      const statements = said.map(({ service, protocol }) => `${service}=${protocol}`)
      disputes.set([namespace, port, ...statements].join(' '), { namespace, port, said })
    }
  }
  return disputes
}

const podsIn = (world: World, namespaces: ReadonlySet<string>): PodRecord[] =>
  namespaces.size === 0 ? [] : [...world.pods.values()].filter(({ namespace }) => namespaces.has(namespace))

const describe = ({ port, said }: Dispute): string => {
  const statements = said.map(({ service, protocol }) => `${service} (${protocol})`).join(', ')
  return (
    `Services disagree about port ${port} of the pods that they select: ${statements}. It carries opaque bytes, and ` +
    'no request on it is read. Let their appProtocol agree, or say it in the pods’ postern.dev/http-ports or http2-ports'
  )
}

export type ProtocolReporter = EventWriter & {
  readonly world: World
  readonly clock: Clock
  /** Of all replicas the leader alone writes Events. */
  readonly leads: () => boolean
}

/** Reports each dispute once while it lasts: a log line, and an Event on the first of the Services. */
export function protocolReporter(reporter: ProtocolReporter) {
  const { world, clock, log, leads } = reporter
  const reported = new Map<string, Dispute>()

  const report = (dispute: Dispute): void => {
    const { namespace, port, said } = dispute
    log.warn({ namespace, port, services: said.slice(0, MOST_TOLD) }, 'services disagree about a port')
    const [first] = said
    if (!first || !leads()) return
    const service = { kind: 'Service', namespace, name: first.service } as const
    const told = { type: 'Warning', reason: 'ProtocolDisputed', message: describe(dispute) } as const
    void writeEvent(reporter, eventOn(service, { ...told, now: clock.now() }))
  }

  return ({ namespaces, pods }: Changes): void => {
    const changed = [...pods].flatMap(uid => world.pods.get(uid) ?? [])
    const disputes = disputesOf(world, [...changed, ...podsIn(world, namespaces)])
    for (const [key, { namespace }] of reported)
      if (namespaces.has(namespace) && !disputes.has(key)) reported.delete(key)
    const fresh = [...disputes].filter(([key]) => !reported.has(key))
    for (const [key, dispute] of fresh.slice(0, MOST_TOLD)) {
      reported.set(key, dispute)
      report(dispute)
    }
  }
}
