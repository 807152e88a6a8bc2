// The control stream's five kinds of message: one mTLS HTTP/2 stream (POST /v1/control) from each sidecar to any
// injector replica, newline-delimited JSON both ways. Items are full state with a version: whoever missed one
// message is made whole by the next. The schema for other languages is messages.schema.json (a test compares).
import type { Partner, PartnerClients } from '../federation/model.ts'
import { FEATURES, type PolicySet, TLS_PORTS, WATCHED_POLICIES } from '../policy/model.ts'
import type { OutsideHost } from '../policy/outside-host.ts'
import type { RequestAuthentication } from '../policy/request-authentication.ts'
import type { Protocols } from '../protocol.ts'
import type { Renewal } from '../renewal-order.ts'
import type { Revoked } from '../revocation.ts'
import type { TrustBundle } from '../trust-bundle.ts'

export const CONTROL_PATH = '/v1/control'
/** For replicas of the injector alone: GET gives a SidecarReport a line. */
export const SIDECARS_PATH = '/v1/sidecars'
/** Both sides send at least this often; silence of LOST_AFTER_MS ends the stream. */
export const HEARTBEAT_MS = 5_000
export const LOST_AFTER_MS = 15_000

/**
 * Sidecar → injector, first on the stream: who speaks. The certificate proves the service account. Answered with 200, or
 * with 403, the header `postern-code` and the reason as one line of text.
 */
export type Hello = {
  readonly kind: 'hello'
  readonly podUid: string
  readonly version: string
  /** What the sidecar knows: features of policies, and extensions of `state` and of Services. */
  readonly features: readonly string[]
}

/** Sidecar → injector: the full set of canonical IP literals it uses; replaces the former set. */
export type Subscribe = { readonly kind: 'subscribe'; readonly addresses: readonly string[] }

/** Sidecar → injector, each heartbeat and after each `state`: what is in force. */
export type Status = {
  readonly kind: 'status'
  /** Version of the last `state` applied, or 0. */
  readonly stateVersion: number
  /** SHA-256 fingerprints (hex) of the roots in force: how a root rotation is confirmed. */
  readonly roots: readonly string[]
  readonly certificateSerial?: string
  readonly certificateNotAfter?: string
} & StatusExtensions

/**
 * Keys of `status` that came after its first version. Injectors refuse keys that they do not know, so each is sent only to
 * those whose answer names it in the header FEATURES_HEADER; of an older sidecar they are not known.
 */
export type StatusExtensions = {
  /** When the present certificate was received: what it lives is counted from there, since signers backdate. */
  readonly certificateReceivedAt?: string
  /** While renewals fail in a row. */
  readonly renewal?: FailingRenewal
}

export type FailingRenewal = {
  /** In a row, 1 or more. */
  readonly failures: number
  /** Of the latest. One of shared/errors.ts, but perhaps of a newer version's. */
  readonly code: string
  /** When the first of them failed. */
  readonly since: string
  /** Until the next attempt, from the latest on. */
  readonly retrySeconds: number
}

export const STATUS_EXTENSIONS = [
  'certificateReceivedAt',
  'renewal',
] as const satisfies readonly (keyof StatusExtensions)[]

/** In the injector's 200: what it reads of a status beyond its first version, separated by commas. */
export const FEATURES_HEADER = 'postern-features'

/** Injector → sidecar: everything that binds this pod. `version` grows within one stream. */
export type State = {
  readonly kind: 'state'
  readonly version: number
  readonly policy: PolicySet
  readonly trust: readonly TrustBundle[]
  /** The cluster's prefixes (CIDR): all pods and Services are inside. An address outside them is not mesh. */
  readonly prefixes: readonly string[]
} & StateExtensions

/**
 * Keys of `state` that came after its first version. Sidecars refuse keys that they do not know, so each is sent only to
 * those whose hello names it; what an older injector leaves out is not known.
 */
export type StateExtensions = {
  /** What the pod's ports speak. Absent: every port carries opaque bytes. */
  readonly protocols?: Protocols
  /** The zone of the pod's own node. */
  readonly zone?: string
  /** Whom to refuse. Absent: it has not changed on this stream, or the injector does not speak of it: what was known stays in force. */
  readonly revoked?: Revoked
  /** Renew before the time, if the present certificate was received before then. */
  readonly renew?: Renewal
  /** Hosts outside the mesh that are dialled with TLS. Absent: the injector does not speak of it, and what was known stays in force. */
  readonly outside?: readonly OutsideHost[]
  /**
   * SHA-256 fingerprints (hex) of roots that were replaced in good order: connections that they vouched for may end in peace.
   * Absent: there is none, and a root that goes takes its connections with it.
   */
  readonly retired?: readonly string[]
  /** The same of roots that are not to be trusted again, whoever brings them. Absent: there is none, or it is not spoken of. */
  readonly revokedRoots?: readonly string[]
  /** Foreign trust domains, all of them. Absent: the injector does not speak of them, and what was known stays in force. */
  readonly partners?: readonly Partner[]
  /** Whose tokens requests may carry. Absent: the injector does not speak of it, and what was known stays in force. */
  readonly requestAuthentication?: readonly RequestAuthentication[]
  /** Callers without SPIFFE whom ports of this pod know. Absent: none. */
  readonly partnerClients?: readonly PartnerClients[]
}

/** The same for entries of Services. */
export type ServiceExtensions = {
  /** sessionAffinity: a caller keeps to the endpoint that it used less than this long ago. */
  readonly affinitySeconds?: number
}

export const STATE_EXTENSIONS = [
  'protocols',
  'zone',
  'revoked',
  'renew',
  'retired',
  'revokedRoots',
  'outside',
  'requestAuthentication',
  'partners',
  'partnerClients',
] as const satisfies readonly (keyof StateExtensions)[]
export const SERVICE_EXTENSIONS = ['affinitySeconds'] as const satisfies readonly (keyof ServiceExtensions)[]

/** What a sidecar of this build says in its hello. */
export const KNOWN_FEATURES: readonly string[] = [
  ...FEATURES,
  TLS_PORTS,
  WATCHED_POLICIES,
  ...STATE_EXTENSIONS,
  ...SERVICE_EXTENSIONS,
]

/** Injector → sidecar: answers to subscribed addresses, at first and whenever one changes; empty as a heartbeat. */
export type Addresses = { readonly kind: 'addresses'; readonly entries: readonly AddressEntry[] }

export type FromSidecar = Hello | Subscribe | Status
export type FromInjector = State | Addresses

/** A mesh pod: what a dialler needs to reach it through its tunnel and to know it when it answers. */
export type MeshPod = {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  /** The SPIFFE ID that it must present. */
  readonly identity: string
  /** Ports that its own capture leaves alone: dialled in plaintext. */
  readonly skipInboundPorts: readonly number[]
  readonly zone?: string
}

export type Endpoint = {
  readonly address: string
  readonly port: number
  readonly zone?: string
  /** Absent: a pod or host without a sidecar. */
  readonly mesh?: MeshPod
}

export type ServicePort = { readonly port: number; readonly endpoints: readonly Endpoint[] }

/** A Service's cluster IP, with the endpoints that the subscriber may be sent to. */
export type ServiceEntry = {
  readonly kind: 'service'
  readonly address: string
  readonly service: string
  readonly ports: readonly ServicePort[]
} & ServiceExtensions

export type AddressEntry =
  /** A live pod with a sidecar. */
  | { readonly kind: 'mesh'; readonly address: string; readonly pod: MeshPod }
  /** A live pod, node or host without a sidecar. */
  | { readonly kind: 'plain'; readonly address: string }
  | ServiceEntry
  /** Inside the prefixes, but nothing live has it. */
  | { readonly kind: 'unknown'; readonly address: string }
  /** Two live pods claim it. */
  | { readonly kind: 'ambiguous'; readonly address: string; readonly uids: readonly string[] }
