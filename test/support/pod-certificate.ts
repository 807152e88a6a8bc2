// Keys and proofs of possession as the kubelet sends them in a PodCertificateRequest, and as it never would.
import { constants, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { stubInfo } from '../../injector/podcertificates/request.ts'
import { buildCsrInfo } from '../../shared/x509/csr.ts'
import { der, TAG } from '../../shared/x509/der.ts'

type KeyKind = 'P-256' | 'P-384' | 'ed25519' | 'rsa'

export type StubKeys = {
  readonly kind: KeyKind
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

export function newKeys(kind: KeyKind = 'P-256') {
  const pair = pairOf(kind)
  const spki = pair.publicKey.export({ format: 'der', type: 'spki' })
  return {
    kind,
    ...pair,
    /** The fields of kubelets before 1.36: the bare key, and the pod's uid signed with it. */
    bare: (podUid: string) => ({
      stubPKCS10Request: '',
      pkixPublicKey: spki.toString('base64'),
      proofOfPossession: sign('sha256', Buffer.from(podUid), pair.privateKey).toString('base64'),
    }),
  }
}

function pairOf(kind: KeyKind): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  switch (kind) {
    case 'ed25519':
      return generateKeyPairSync('ed25519')
    case 'rsa':
      return generateKeyPairSync('rsa', { modulusLength: 3072 })
    default:
      return generateKeyPairSync('ec', { namedCurve: kind })
  }
}

/** AlgorithmIdentifiers of what signs below (RFC 5758, 8410, 4055). */
const ALGORITHMS: Record<KeyKind, Buffer> = {
  'P-256': Buffer.from('300a06082a8648ce3d040302', 'hex'),
  'P-384': Buffer.from('300a06082a8648ce3d040302', 'hex'),
  ed25519: Buffer.from('300506032b6570', 'hex'),
  rsa: Buffer.from('300d06092a864886f70d01010b0500', 'hex'),
}

/** Base64. `asks`: a URI SAN, which no kubelet asks for. `signer`: another key than the one in it. */
export function kubeletStub(keys: StubKeys, asks?: string, signer: StubKeys = keys): string {
  const spki = keys.publicKey.export({ format: 'der', type: 'spki' })
  const info = asks === undefined ? stubInfo(spki) : buildCsrInfo(spki, asks)
  const key = {
    key: signer.privateKey,
    ...(signer.kind === 'rsa' && { padding: constants.RSA_PKCS1_PADDING }),
  }
  const signature = sign(signer.kind === 'ed25519' ? null : 'sha256', info, key)
  const bits = der(TAG.bitString, Buffer.from([0]), signature)
  return der(TAG.sequence, info, ALGORITHMS[keys.kind], bits).toString('base64')
}
