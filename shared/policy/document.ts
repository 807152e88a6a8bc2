// Policy documents as they were written, validated and normalized, before they are bound to pods (bind.ts).
import type { AuthorizationPolicy, InboundMode } from './model.ts'

/** Labels that a pod must have. Absent: every pod that the document's namespace reaches. */
export type Selector = { readonly [label: string]: string }

export type AuthorizationDocument = {
  readonly kind: 'AuthorizationPolicy'
  readonly namespace: string
  readonly selector?: Selector
  readonly policy: AuthorizationPolicy
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
}

export type PolicyDocument = AuthorizationDocument | PeerAuthenticationDocument

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
    features: ['a valid document'],
  }
  return { kind: 'AuthorizationPolicy', namespace, policy }
}
