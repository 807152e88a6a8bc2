// Hosts outside the mesh to which sidecars speak TLS for an application that does not: as they are sent to a sidecar, and
// which of them an address and a port belong to. The YAML form is read-outside-host.ts.
import { type Cidr, cidrsContain, parseCidr } from '../addresses.ts'
import { type Decode, extensible, integer, listOf, optional, text } from '../decode.ts'

export type OutsideTls = {
  /** MUTUAL shows the SVID of the caller, SIMPLE nothing. */
  readonly mode: string
  /** PEM. Absent: the public roots that Node ships. */
  readonly roots?: readonly string[]
  readonly alpn?: readonly string[]
}

export type OutsideHost = {
  /** `<namespace>/<name>`: how logs name the document. */
  readonly name: string
  /** The SNI, and the name that the certificate must have. */
  readonly host: string
  /** As the application dials them. */
  readonly addresses: readonly string[]
  /** Absent: every port, of a ConfigMap that nobody could read. */
  readonly ports?: readonly number[]
  readonly tls: OutsideTls
  /** What a sidecar must know; where it does not, it refuses the address instead of dialling it in plaintext. */
  readonly features: readonly string[]
}

export const OUTSIDE_MODES = ['MUTUAL', 'SIMPLE'] as const
export type OutsideMode = (typeof OUTSIDE_MODES)[number]

const HOST_FIELDS: ReadonlySet<string> = new Set<keyof OutsideHost>([
  'name',
  'host',
  'addresses',
  'ports',
  'tls',
  'features',
])
const TLS_FIELDS: ReadonlySet<string> = new Set<keyof OutsideTls>(['mode', 'roots', 'alpn'])

/** What of it this build does not know, or undefined. A newer injector is the honest reason. */
export function outsideObstacle(declared: OutsideHost): string | undefined {
  const { tls, features } = declared
  const feature = features[0]
  if (feature !== undefined) return feature
  const field =
    Object.keys(declared).find(key => !HOST_FIELDS.has(key)) ??
    Object.keys(tls).find(key => !TLS_FIELDS.has(key))
  if (field !== undefined) return `the field ${field}`
  return OUTSIDE_MODES.some(mode => mode === tls.mode) ? undefined : `the mode ${tls.mode}`
}

export type Place = { readonly address: string; readonly port: number }

/** All that are declared for one of the places, in their order. */
export type OutsideMatch = (places: readonly Place[]) => readonly OutsideHost[]

export function matchOutside(hosts: readonly OutsideHost[]): OutsideMatch {
  const compiled = hosts.map(host => ({
    host,
    contains: cidrsContain(host.addresses.map(parseCidr).filter((cidr): cidr is Cidr => cidr !== undefined)),
    ports: host.ports && new Set(host.ports),
  }))
  return places =>
    compiled
      .filter(({ contains, ports }) =>
        places.some(({ address, port }) => (!ports || ports.has(port)) && contains(address)),
      )
      .map(({ host }) => host)
}

const filled = text(value => value !== '', 'a string that is not empty')

export const decodeOutside: Decode<readonly OutsideHost[]> = listOf(
  extensible<OutsideHost>({
    name: filled,
    host: filled,
    addresses: listOf(text(value => parseCidr(value) !== undefined, 'a CIDR')),
    ports: optional(listOf(integer(1, 65_535))),
    tls: extensible<OutsideTls>({
      mode: filled,
      roots: optional(listOf(filled)),
      alpn: optional(listOf(filled)),
    }),
    features: listOf(filled),
  }),
)
