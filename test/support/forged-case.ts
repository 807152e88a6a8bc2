// A case of test/vectors/csr as the objects that the approver is given.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import { type Case, honestObject, honestPod, IDENTITY, type Patch } from '../vectors/csr/cases.ts'
import { forgeRequest } from './forged-requests.ts'
import { mergePatch } from './merge-patch.ts'

export type Input = { readonly object: V1CertificateSigningRequest; readonly pod: V1Pod | undefined }

export function inputOf({ csr, pem = same, object = {}, pod = {} }: Case): Input {
  const request = Buffer.from(pem(forgeRequest(IDENTITY, csr))).toString('base64')
  return {
    object: mergePatch(mergePatch<Patch>(honestObject, { spec: { request } }), object),
    pod: pod === null ? undefined : mergePatch(honestPod, pod),
  }
}

const same = (text: string): string => text
