// The CA's certificates as this replica uses them, without their keys: what expires when.
import type { CaReport, CaValidity } from '../../shared/ca/validity.ts'
import { type Certificate, parseCertificate } from '../../shared/x509/certificate.ts'
import type { Authority } from '../ca/authority.ts'

export const caReport = ({ issuer, roots }: Pick<Authority, 'issuer' | 'roots'>): CaReport => ({
  issuer: validityOf(issuer),
  roots: roots.map(root => validityOf(parseCertificate(root))),
})

const validityOf = ({ fingerprint256, notBefore, notAfter }: Certificate): CaValidity => ({
  fingerprint: fingerprint256,
  notBefore: notBefore.toISOString(),
  notAfter: notAfter.toISOString(),
})
