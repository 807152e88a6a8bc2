// Whom the API server takes the caller for: what operators write says who wrote it.
import type { Kube } from '../shared/kube/rest.ts'

type SelfSubjectReview = {
  readonly apiVersion: string
  readonly kind: string
  readonly status?: { readonly userInfo?: { readonly username?: string } }
}

export async function whoAmI(kube: Kube, signal: AbortSignal): Promise<string> {
  const review: SelfSubjectReview = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' }
  const path = '/apis/authentication.k8s.io/v1/selfsubjectreviews'
  const { status } = await kube.create(path, review, signal)
  return status?.userInfo?.username ?? 'somebody'
}
