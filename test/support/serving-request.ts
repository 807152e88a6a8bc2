// A request for a serving certificate made by the real openssl, and the CertificateSigningRequest around it.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import { SERVING_SIGNER } from '../../shared/names.ts'
import { DEFAULTS, type ServingCase } from '../vectors/csr/serving.ts'
import { openssl } from './openssl.ts'

/** PEM. The key is thrown away. */
export function servingPem(one: ServingCase): string {
  const { key, subject, extensions, digest } = { ...DEFAULTS, ...one }
  const wanted = extensions.flatMap(extension => ['-addext', extension])
  const args = ['req', '-new', '-nodes', '-utf8', '-keyout', '/dev/null', digest, '-subj', subject]
  return openssl([...args, ...key, ...wanted]).toString()
}

export function servingObject(
  name: string,
  pem: string,
  one: ServingCase = { name },
): V1CertificateSigningRequest {
  const { usages, expirationSeconds } = { ...DEFAULTS, ...one }
  return {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name },
    spec: {
      request: Buffer.from(pem).toString('base64'),
      signerName: SERVING_SIGNER,
      usages: [...usages],
      ...(expirationSeconds !== undefined && { expirationSeconds }),
    },
  }
}
