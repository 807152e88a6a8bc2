// The signer postern.dev/serving: certificates for servers that are not workloads of the mesh, with DNS names and IP
// addresses, asked for with plain openssl and approved by a person. Nothing here approves, and no certificate of it is an
// identity: it has no URI SAN, and it is for the server's end alone. Pure.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import { asPosternError } from '../../shared/errors.ts'
import { OID } from '../../shared/x509/oids.ts'
import type { LeafRequest } from '../ca/authority.ts'
import { awaitsSignature, requestBytes } from './request.ts'
import { unservable } from './serving-names.ts'
import { readServingRequest, type ServingRequest } from './serving-request.ts'
import { lifetime } from './sign.ts'

export type Servable =
  | { readonly kind: 'sign'; readonly leaf: LeafRequest }
  /** Not approved, or answered already. */
  | { readonly kind: 'wait' }
  /** Approved, but nothing that may ever be signed. */
  | { readonly kind: 'fail'; readonly reason: string }

export type ServingSettings = {
  /** Also what a request gets that asks for none. */
  readonly maxServingLifetimeSeconds: number
}

export function servable(
  object: V1CertificateSigningRequest,
  { maxServingLifetimeSeconds: max }: ServingSettings,
  now: number,
): Servable {
  if (!awaitsSignature(object)) return { kind: 'wait' }
  try {
    const keyEncipherment = checkUsages(object.spec.usages ?? [])
    const { publicKey, keyType, ...names } = readServingRequest(requestBytes(object).toString('latin1'))
    const leaf: LeafRequest = {
      publicKeySpki: publicKey,
      ...names,
      keyEncipherment: keyEncipherment && isEncipherer(keyType),
      extKeyUsage: [OID.serverAuth],
      lifetimeSeconds: lifetime(object.spec.expirationSeconds, max, max),
      now,
    }
    return { kind: 'sign', leaf }
  } catch (thrown) {
    return { kind: 'fail', reason: asPosternError(thrown, 'PSTN_CSR_FAILED').message }
  }
}

/** RFC 8813, 3 and RFC 9295, 3: of the kinds we sign only an RSA key can encipher. */
const isEncipherer = (keyType: ServingRequest['keyType']): boolean => keyType === 'rsa'

const REQUIRED = ['digital signature', 'server auth']
const OPTIONAL = 'key encipherment'

/** As kubernetes.io/kubelet-serving has them. Whether key encipherment is among them. */
function checkUsages(usages: readonly string[]): boolean {
  const others = usages.filter(usage => usage !== OPTIONAL && !REQUIRED.includes(usage))
  const missing = REQUIRED.filter(usage => !usages.includes(usage))
  if (others.length > 0 || missing.length > 0) {
    const found = [
      ...others.map(usage => `${usage} is there`),
      ...missing.map(usage => `${usage} is missing`),
    ]
    throw unservable(`usages must be ${REQUIRED.join(', ')} and perhaps ${OPTIONAL}: ${found.join(', ')}`)
  }
  return usages.includes(OPTIONAL)
}
