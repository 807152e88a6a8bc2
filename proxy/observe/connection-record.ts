// What is known of one connection: made at accept, filled in as the stages learn more, told when it ends.
import type { Protocol } from '../../shared/protocol.ts'

export type Direction = 'inbound' | 'outbound'
/** `tls`: by a certificate that the sidecar terminates or originates TLS with; `tls-anonymous`: terminated, and none was asked for. */
export type Via = 'tunnel' | 'plaintext' | 'tls' | 'tls-anonymous'

/** Every field is there from the beginning: an object that changes its shape costs more than all that is kept in it. */
export type ConnectionRecord = {
  readonly direction: Direction
  readonly startedAt: number
  readonly source: { readonly address: string; readonly identity?: string; readonly serial?: string }
  /** Unknown while an outbound connection is not resolved. */
  via: Via | undefined
  destination: { readonly address: string; readonly port: number } | undefined
  /** Of a Service: where it led to, after how many endpoints that could not be opened. */
  endpoint: string | undefined
  retries: number
  /** Who is behind the destination, as far as it is known: the directory's pod, then what its certificate says. */
  remote: Remote | undefined
  /** Bytes passed on so far: `a` is who opened the connection. */
  readonly traffic: Traffic
  /** Of a port whose requests are read: what it speaks, and how many there were. */
  protocol: Protocol | undefined
  requests: number
}

/** A pod, a partner, or a declared host outside the mesh. */
type Remote = {
  readonly pod?: string
  readonly trustDomain?: string
  readonly host?: string
  readonly identity?: string
  readonly serial?: string
}

type Traffic = { aToB: number; bToA: number }

export type Carried = { readonly received: number; readonly sent: number }

/** As the pod's own application sees it. */
export const carriedBy = ({ direction, traffic: { aToB, bToA } }: ConnectionRecord): Carried =>
  direction === 'inbound' ? { received: aToB, sent: bToA } : { received: bToA, sent: aToB }
