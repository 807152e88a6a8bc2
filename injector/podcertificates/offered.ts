// Whether a pod that wants its certificate in a projected volume may be let in: where nobody would answer the kubelet the
// pod would hang, with a message that names neither the annotation nor the reason.
import type { Kube } from '../../shared/kube/rest.ts'
import { isOurs } from '../signer/outside.ts'
import { tooShort } from './decide.ts'
import { podCertificateVersion } from './objects.ts'

export type OfferSettings = { readonly signerName: string; readonly maxLeafLifetimeSeconds: number }

/** Why not, in words; undefined if it may. @throws whatever keeps the API server from saying what it has. */
export async function whyNoPodCertificates(
  kube: Kube,
  { signerName, maxLeafLifetimeSeconds }: OfferSettings,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!(await podCertificateVersion(kube, signal)))
    return 'this cluster has no PodCertificateRequests: they come with Kubernetes 1.37, or 1.36 with its feature gate'
  return isOurs(signerName) ? tooShort(maxLeafLifetimeSeconds) : undefined
}
