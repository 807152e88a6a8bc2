// Policy documents as they were written, validated and normalized, before they are bound to pods (bind.ts).
import type { AuthorizationPolicy, InboundMode, TlsMode } from './model.ts'
import type { OutsideHost } from './outside-host.ts'
import type { RequestAuthentication } from './request-authentication.ts'

/** Labels that a pod must have. Absent: every pod that the document's namespace reaches. */
export type Selector = { readonly [label: string]: string }

export type AuthorizationDocument = {
  readonly kind: 'AuthorizationPolicy'
  readonly namespace: string
  readonly selector?: Selector
  readonly policy: AuthorizationPolicy
  /** It decides nothing: an AUDIT, or a dry run. */
  readonly watched?: true
}

export type PeerAuthenticationDocument = {
  readonly kind: 'PeerAuthentication'
  readonly namespace: string
  /** `<namespace>/<name>` */
  readonly name: string
  readonly selector?: Selector
  /** Absent: inherited. */
  readonly mode?: InboundMode
  readonly ports: { readonly [port: string]: InboundMode }
  readonly tls?: { readonly [port: string]: TlsMode }
}

export type OutsideHostDocument = {
  readonly kind: 'OutsideHost'
  readonly namespace: string
  readonly selector?: Selector
  readonly outside: OutsideHost
}

export type RequestAuthenticationDocument = {
  readonly kind: 'RequestAuthentication'
  readonly namespace: string
  readonly selector?: Selector
  readonly authentication: RequestAuthentication
}

export type PolicyDocument =
  | AuthorizationDocument
  | PeerAuthenticationDocument
  | OutsideHostDocument
  | RequestAuthenticationDocument

/** `<namespace>/<name>` */
export function nameOf(document: PolicyDocument): string {
  switch (document.kind) {
    case 'AuthorizationPolicy':
      return document.policy.name
    case 'PeerAuthentication':
      return document.name
    case 'OutsideHost':
      return document.outside.name
    case 'RequestAuthentication':
      return document.authentication.name
  }
}

/** Where a document is wrong, and what to write instead. Lines and columns count from 1. */
export type PolicyProblem = {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly path: string
  readonly reason: string
  readonly hint: string
}

/** One line for logs, events and admission answers. */
export const describeProblem = ({ file, line, column, path, reason, hint }: PolicyProblem): string =>
  `${file}:${line}:${column}: ${path && `${path}: `}${reason}; ${hint}`

const NEVER_VALID = ['a valid document']

/**
 * What stands in for a ConfigMap that never was valid: nobody knows what it was to deny, so it denies all that it may
 * cover (every pod of its namespace), with PSTN_POLICY_UNSUPPORTED.
 */
export function unreadable(namespace: string, name: string): AuthorizationDocument {
  const policy: AuthorizationPolicy = {
    kind: 'AuthorizationPolicy',
    name: `${namespace}/${name}`,
    action: 'DENY',
    rules: [{}],
    features: NEVER_VALID,
  }
  return { kind: 'AuthorizationPolicy', namespace, policy }
}

/** The same for what it may have declared to be dialled with TLS: nothing leaves these pods in plaintext. */
export function unreadableOutside(namespace: string, name: string): OutsideHostDocument {
  const outside: OutsideHost = {
    name: `${namespace}/${name}`,
    host: 'unknown',
    addresses: ['0.0.0.0/0', '::/0'],
    tls: { mode: 'MUTUAL', roots: [] },
    features: NEVER_VALID,
  }
  return { kind: 'OutsideHost', namespace, outside }
}
