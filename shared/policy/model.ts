// The normalized policy documents: what the injector sends and every evaluator compiles. Already validated,
// defaults filled in, and bound to the pods they select; the YAML form is shared/policy/parse.ts.
// Semantics follow Istio's AuthorizationPolicy and PeerAuthentication.

import type { EndUser } from './end-user.ts'
import type { HeaderValues } from './request-headers.ts'

/** A pattern over a string: exact, `prefix*`, `*suffix`, or `*` (present, not empty). */
export type StringMatch = string

/** One `from` entry: all the given fields must match (AND); within a field any value (OR), and no `not` value. */
export type SourceMatch = {
  readonly principals?: readonly StringMatch[]
  readonly notPrincipals?: readonly StringMatch[]
  readonly namespaces?: readonly StringMatch[]
  readonly notNamespaces?: readonly StringMatch[]
  /** `<namespace>/<service account>`, or the bare name for the policy's own namespace (normalized to the long form). */
  readonly serviceAccounts?: readonly StringMatch[]
  readonly notServiceAccounts?: readonly StringMatch[]
  /** Ours, or a partner's. */
  readonly trustDomains?: readonly StringMatch[]
  readonly notTrustDomains?: readonly StringMatch[]
  /** Canonical CIDRs of the address that the connection came from: known of every caller, and no identity. */
  readonly ipBlocks?: readonly string[]
  readonly notIpBlocks?: readonly string[]
  /** `<iss>/<sub>` of the end user's token: of the request, not of who carries it. */
  readonly requestPrincipals?: readonly StringMatch[]
  readonly notRequestPrincipals?: readonly StringMatch[]
}

/** One `to` entry, in the same way. The HTTP fields are known of requests on ports that are declared HTTP alone. */
export type OperationMatch = {
  readonly ports?: readonly number[]
  readonly notPorts?: readonly number[]
  /** Without a port: of any; with one: of that alone. Letters of either case are the same. */
  readonly hosts?: readonly StringMatch[]
  readonly notHosts?: readonly StringMatch[]
  readonly methods?: readonly StringMatch[]
  readonly notMethods?: readonly StringMatch[]
  /** Of normalized paths, without the query. Templates too (path-template.ts). */
  readonly paths?: readonly StringMatch[]
  readonly notPaths?: readonly StringMatch[]
}

/** One `when` entry: a value of what `key` names (condition-key.ts), and none of `notValues`. */
export type Condition = {
  readonly key: string
  readonly values?: readonly StringMatch[]
  readonly notValues?: readonly StringMatch[]
  /** Of `request.path[…]` alone: the key of what must be the same, or must not. */
  readonly equals?: string
  readonly notEquals?: string
}

/** Matches when any `from`, any `to` and every `when` match; an absent list matches everything. */
export type Rule = {
  readonly from?: readonly SourceMatch[]
  readonly to?: readonly OperationMatch[]
  readonly when?: readonly Condition[]
}

/** AUDIT decides nothing: what matches is recorded. */
export type Action = 'ALLOW' | 'DENY' | 'AUDIT'

export type AuthorizationPolicy = {
  readonly kind: 'AuthorizationPolicy'
  /** `<namespace>/<name>`: how logs, metrics and refusals name it. */
  readonly name: string
  readonly action: Action
  /** No rules: an ALLOW policy that matches nothing (deny all), a DENY policy that denies nothing. */
  readonly rules: readonly Rule[]
  /** Features that an evaluator must know; an unknown one fails closed (PSTN_POLICY_UNSUPPORTED). */
  readonly features: readonly string[]
}

export type InboundMode = 'strict' | 'permissive'

/** What a sidecar asks of a caller that comes without a tunnel to a port on which it terminates TLS. */
export type TlsMode =
  /** A client certificate: the caller is known by it. */
  | 'mutual'
  /** None: the caller stays unknown, but is encrypted. */
  | 'server'

/** The effective mutual-TLS mode of one pod, after mesh, namespace and workload were merged. */
export type EffectiveMode = {
  readonly inbound: InboundMode
  /** Per application port, where it differs. */
  readonly ports: { readonly [port: string]: InboundMode }
  /**
   * Ports where the sidecar terminates TLS. Each is `strict` in the above too, so that a sidecar that does not know
   * TLS_PORTS, which is not told this key, refuses there what comes without a tunnel.
   */
  readonly tls?: { readonly [port: string]: TlsMode }
}

/** Everything that one sidecar enforces. */
export type PolicySet = {
  readonly mode: EffectiveMode
  readonly policies: readonly AuthorizationPolicy[]
  /** Policies that decide nothing: AUDIT, and dry runs of ALLOW and DENY. Only for sidecars that know WATCHED_POLICIES. */
  readonly watched?: readonly AuthorizationPolicy[]
  /** What holds where no ALLOW policy selects the pod, for callers of our own trust domain and in plaintext. */
  readonly defaultAction: 'allow' | 'deny'
}

/** The features that this build's evaluator knows. */
export const FEATURES = [
  'l4',
  'http',
  'trustDomains',
  'ipBlocks',
  'pathTemplates',
  'when',
  'requestPrincipals',
  'pathNames',
] as const
export type Feature = (typeof FEATURES)[number]

/** In the hello of a sidecar that knows `mode.tls`. */
export const TLS_PORTS = 'tlsPorts'

/** The same policy for a sidecar that does not. */
export function withoutTlsPorts({ mode: { inbound, ports }, ...rest }: PolicySet): PolicySet {
  return { ...rest, mode: { inbound, ports } }
}

/** In the hello of a sidecar that knows `watched`. */
export const WATCHED_POLICIES = 'watchedPolicies'

/** The same policy for a sidecar that does not: nothing is decided otherwise. */
export function withoutWatched({ mode, policies, defaultAction }: PolicySet): PolicySet {
  return { mode, policies, defaultAction }
}

/** What is known of a caller when it is authorized. `identity` is absent for plaintext (unauthenticated) peers. */
export type Caller = {
  readonly identity?: string
  readonly address: string
  /** It came by TLS that this sidecar terminates; with or without an identity. */
  readonly isEncrypted?: boolean
}

/** What is known of a request whose head was read. What it does not say is the empty string, and helps nobody. */
export type HttpRequest = {
  /** As it was written: methods are case-sensitive (RFC 9110, section 9.1). */
  readonly method: string
  /** `Host` or `:authority`, with the port if it names one. */
  readonly host: string
  /** Normalized, in the form in which the application gets it; without the query. `*` of an OPTIONS request. */
  readonly path: string
  /** Absent: nobody has read them, since no policy asked when the request came. */
  readonly headers?: HeaderValues
  /** Whom its token speaks of, where one was verified. */
  readonly user?: EndUser
}

/** `http` is absent for a connection of opaque bytes. */
export type PolicyRequest = {
  readonly caller: Caller
  readonly port: number
  /** Of the pod, in its canonical form, as it was dialled. */
  readonly address?: string
  readonly http?: HttpRequest | undefined
}

/** What policies that decide nothing say of a connection or request. */
export type Observed = {
  /** The first rule of an AUDIT policy that matches. */
  readonly audit?: { readonly policy: string; readonly rule: number }
  /** The decision if the dry runs were in force, where it is another. */
  readonly dryRun?: Decision
}

/** `policy` and `rule` (index) name what decided; absent for the default. */
export type Decision =
  | { readonly allow: true; readonly policy?: string; readonly rule?: number }
  | {
      readonly allow: false
      readonly code:
        | 'PSTN_POLICY_DENIED'
        | 'PSTN_POLICY_UNSUPPORTED'
        | 'PSTN_PLAINTEXT_REFUSED'
        | 'PSTN_PEER_NO_CERTIFICATE'
      readonly policy?: string
      readonly rule?: number
      readonly reason: string
    }
