// Who else could rotate certificates of the mesh's CA: a CSI driver, the kubelet, a script; here the test, with the key
// from the CA's Secret.
import { generateKeyPairSync } from 'node:crypto'
import { type Authority, openAuthority } from '../../injector/ca/authority.ts'
import { fromSecret, type SecretObject } from '../../injector/ca/material.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { CA_SECRET, SYSTEM_NAMESPACE } from '../../shared/names.ts'

export type Rotated = { readonly key: string; readonly chain: string; readonly serial: string }

export async function meshAuthority(kube: Kube, trustDomain = 'cluster.local'): Promise<Authority> {
  const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/secrets/${CA_SECRET}`
  return openAuthority(fromSecret(await kube.get<SecretObject>(path), trustDomain, Date.now()))
}

/** A new key and its certificate. */
export async function rotated(authority: Authority, uri: string, lifetimeSeconds: number): Promise<Rotated> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { chain, serial } = await authority.issue({
    publicKeySpki: publicKey.export({ format: 'der', type: 'spki' }),
    dnsNames: [],
    uri,
    lifetimeSeconds,
    now: Date.now(),
  })
  return { key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), chain, serial }
}
