// Federation documents as they were written, validated and normalized, before they are joined with what was fetched.
import type { Selector } from '../policy/document.ts'
import type { Destination, PartnerClients } from './model.ts'

/** Where a partner's roots come from. */
export type BundleSource =
  /** Profile https_web: `roots` (PEM, of the endpoint's web certificate) in place of the public web PKI. */
  | { readonly kind: 'endpoint'; readonly url: string; readonly roots?: readonly string[] }
  | { readonly kind: 'inline'; readonly roots: readonly string[] }

export type TrustDomainDocument = {
  readonly kind: 'TrustDomain'
  readonly name: string
  readonly trustDomain: string
  readonly source: BundleSource
  readonly destinations: readonly Destination[]
}

export type PartnerClientsDocument = {
  readonly kind: 'PartnerClients'
  /** Of the pods that they may call. */
  readonly namespace: string
  /** Absent: every pod of the namespace. */
  readonly selector?: Selector
  readonly clients: PartnerClients
}

export type FederationDocument = TrustDomainDocument | PartnerClientsDocument

export const nameOf = (document: FederationDocument): string =>
  `${document.kind} ${document.kind === 'TrustDomain' ? document.name : document.clients.name}`
