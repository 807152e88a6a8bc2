// The pod that a certificate was made for. The built-in signer writes its uid into the subject, beside the pod's name, as
// X.520's serialNumber ("the serial number of a device"): an identity is shared by all pods of a service account, and this
// is what tells one pod's certificates from the others'. A label that only its signer's word stands behind.
import { DerError, type DerValue, readDer, readInside, readOid, TAG } from './der.ts'
import { OID } from './oids.ts'

/** The one serialNumber of a Name in DER; undefined if it has none, several, or is not readable as a Name. */
export function podUidOf(subject: Buffer): string | undefined {
  try {
    const [uid, ...more] = readInside(readDer(subject), TAG.sequence).flatMap(serialNumbersOf)
    return more.length === 0 ? uid : undefined
  } catch (thrown) {
    // What other signers write there is none of our business.
    if (thrown instanceof DerError) return undefined
    throw thrown
  }
}

const serialNumbersOf = (relativeName: DerValue): string[] =>
  readInside(relativeName, TAG.set).flatMap(attribute => {
    const [type, value] = readInside(attribute, TAG.sequence)
    return value && readOid(type) === OID.serialNumber ? [value.content.toString('latin1')] : []
  })
