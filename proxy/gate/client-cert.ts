// Who calls, told to the application in the header that Envoy made known: the sidecar's word, since it removes everybody else's.

export type ClientCert = {
  /** The SPIFFE ID of this pod. */
  readonly by: string
  /** SHA-256 of the caller's certificate, lower-case hex. */
  readonly hash: string
  /** The SPIFFE ID of the caller. */
  readonly uri: string
}

/** The value of x-forwarded-client-cert. SPIFFE IDs have no character that must be quoted. */
export const forwardedClientCert = ({ by, hash, uri }: ClientCert): string =>
  `By=${by};Hash=${hash};URI=${uri}`
