// How long the CA's own certificates are good, as a replica of the injector uses them: `postern certs` ranks them with
// those of the sidecars.
import { type Decode, extensible, listOf } from '../decode.ts'
import { fingerprintText, timeText } from './texts.ts'

export type CaValidity = {
  /** SHA-256, lower-case hex. */
  readonly fingerprint: string
  readonly notBefore: string
  readonly notAfter: string
}

export type CaReport = { readonly issuer: CaValidity; readonly roots: readonly CaValidity[] }

const validity = extensible<CaValidity>({
  fingerprint: fingerprintText,
  notBefore: timeText,
  notAfter: timeText,
})

export const decodeCaReport: Decode<CaReport> = extensible<CaReport>({
  issuer: validity,
  roots: listOf(validity),
})
