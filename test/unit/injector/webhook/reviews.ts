// AdmissionReviews as a real API server sent them, with changes.
import { readFile } from 'node:fs/promises'
import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node'

type Request<T> = { readonly [key: string]: unknown; readonly object: T }
type Review<T> = { readonly [key: string]: unknown; readonly request: Request<T> }

const read = async (name: string) =>
  JSON.parse(await readFile(new URL(`../../../vectors/admission/${name}.json`, import.meta.url), 'utf8'))

export const podReview: Review<V1Pod> = await read('pod-create')
export const policyReview: Review<V1ConfigMap> = await read('policy-create')

/** The review of a pod with these changes of its request, as the body of an HTTP request. */
export const withRequest = (change: object, review: Review<unknown> = podReview): Buffer =>
  Buffer.from(JSON.stringify({ ...review, request: { ...review.request, ...change } }))

export const withPod = (pod: object, change: object = {}): Buffer =>
  withRequest({ object: { ...podReview.request.object, ...pod }, ...change })
