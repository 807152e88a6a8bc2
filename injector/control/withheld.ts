// What a sidecar that knows nothing of hosts outside is told of their addresses: as it would dial them in plaintext, they
// are made part of the cluster's prefixes, where it asks before it dials, and nothing is known to be there.
import { type Cidr, cidrsContain, parseCidr } from '../../shared/addresses.ts'
import type { AddressEntry } from '../../shared/control/messages.ts'
import type { OutsideHost } from '../../shared/policy/outside-host.ts'

export type Withheld = {
  readonly prefixes: readonly string[]
  /** Whatever leads to one of them in plaintext is taken out, whichever its port. */
  from(entry: AddressEntry): AddressEntry
}

export function withheld(hosts: readonly OutsideHost[]): Withheld {
  const prefixes = [...new Set(hosts.flatMap(({ addresses }) => addresses))]
  const covers = cidrsContain(prefixes.map(parseCidr).filter((cidr): cidr is Cidr => cidr !== undefined))
  return {
    prefixes,
    from: entry => {
      const { address } = entry
      if (entry.kind === 'plain' && covers(address)) return { kind: 'unknown', address }
      if (entry.kind !== 'service') return entry
      const ports = entry.ports.map(({ port, endpoints }) => ({
        port,
        endpoints: endpoints.filter(({ mesh, address: at }) => mesh || !(covers(address) || covers(at))),
      }))
      return { ...entry, ports }
    },
  }
}
