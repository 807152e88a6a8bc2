// What the ports of a pod speak: what its annotations say, else what the Services that select it declare. Where Services
// disagree nothing is declared: opaque bytes reach the application whatever they are, and fail closed where a policy
// asks for what only requests have.
import { selects } from '../../shared/policy/bind.ts'
import { isOwnPort } from '../../shared/ports.ts'
import type { Protocol, Protocols } from '../../shared/protocol.ts'
import type { Declaration } from './declared-ports.ts'
import type { PodRecord } from './records.ts'
import type { World } from './world.ts'

/** What one Service says of a port. */
export type Said = { readonly service: string; readonly protocol: Declaration['protocol'] }

export function protocolsOf(world: World, pod: PodRecord): Protocols {
  const declared = new Map<number, Declaration['protocol']>()
  for (const [port, said] of saidByServices(world, pod)) declared.set(port, agreed(said) ?? 'opaque')
  for (const [port, protocol] of Object.entries(pod.protocols)) declared.set(Number(port), protocol)
  const protocols: { [port: string]: Protocol } = {}
  for (const [port, protocol] of declared) {
    if (protocol !== 'opaque' && isGated(pod, port)) protocols[port] = protocol
  }
  return protocols
}

/** Ports about which Services disagree and no annotation decides, with what each of them says. */
export function disputedPorts(world: World, pod: PodRecord): [port: number, said: readonly Said[]][] {
  return [...saidByServices(world, pod)]
    .filter(([port, said]) => !agreed(said) && !Object.hasOwn(pod.protocols, port) && isGated(pod, port))
    .map(([port, said]) => [port, said.toSorted(byService)])
}

const byService = (a: Said, b: Said): number => (a.service < b.service ? -1 : Number(a.service > b.service))

/** Undefined: they do not. */
function agreed([first, ...others]: readonly Said[]): Declaration['protocol'] | undefined {
  return others.every(({ protocol }) => protocol === first?.protocol) ? first?.protocol : undefined
}

const isGated = ({ skipInboundPorts }: PodRecord, port: number): boolean =>
  !isOwnPort(port) && !skipInboundPorts.includes(port)

/** By port. */
function saidByServices(world: World, pod: PodRecord): Map<number, Said[]> {
  const all = new Map<number, Said[]>()
  const services = [...world.declaringServices.get(pod.namespace)].flatMap(
    key => world.services.get(key) ?? [],
  )
  for (const { name, declares } of services.filter(({ selector }) => isSelected(pod, selector))) {
    for (const { target, protocol } of declares) {
      const port = portOf(pod, target)
      if (port !== undefined) all.getOrInsertComputed(port, () => []).push({ service: name, protocol })
    }
  }
  return all
}

const isSelected = ({ labels }: PodRecord, selector: PodRecord['labels'] | undefined): boolean =>
  selector !== undefined && Object.keys(selector).length > 0 && selects(selector, labels)

const portOf = ({ namedPorts }: PodRecord, target: number | string): number | undefined =>
  typeof target === 'number' ? target : namedPorts.find(({ name }) => name === target)?.port
