// AdmissionReview v1 as values: strict about what the API server always sends, so that anything else that finds the
// port gets a clear refusal. Unknown fields are accepted, since newer API servers add some.
import { isUtf8 } from 'node:buffer'
import type { V1ConfigMap, V1Pod } from '@kubernetes/client-node'
import { CODES, type Code, PosternError } from '../../shared/errors.ts'
import type { JsonPatchOperation } from '../../shared/injection/json-patch.ts'

const ADMISSION_API_VERSION = 'admission.k8s.io/v1'

export type AdmissionRequest = {
  readonly uid: string
  /** `group/version/resource`, without the group of the core API. */
  readonly resource: string
  readonly operation: string
  readonly namespace: string
  /** A dry run must have no effect beyond its answer. */
  readonly dryRun: boolean
  readonly object: Json
}

export type AdmissionAnswer =
  | {
      readonly kind: 'allow'
      readonly patch?: readonly JsonPatchOperation[]
      /** Shown to whoever sent the request, kubectl for instance. */
      readonly warnings?: readonly string[]
    }
  | { readonly kind: 'refuse'; readonly code: Code; readonly message: string }

/** As the API server has it, which looks only after us. Callers are not authenticated: more would be work for nothing. */
const MAX_ANNOTATION_BYTES = 256 * 1024

type Json = { readonly [key: string]: unknown }

const malformed = (why: string) => new PosternError('PSTN_ADMISSION_MALFORMED', why)

/** @throws PosternError PSTN_ADMISSION_MALFORMED saying what an AdmissionReview would have. */
export function parseAdmissionReview(body: Buffer): AdmissionRequest {
  const review = object(parseJson(body), 'the body')
  if (review.apiVersion !== ADMISSION_API_VERSION)
    throw malformed(`apiVersion is not ${ADMISSION_API_VERSION}`)
  if (review.kind !== 'AdmissionReview') throw malformed('kind is not AdmissionReview')
  const request = object(review.request, 'request')
  const resource = object(request.resource, 'request.resource')
  const subresource = request.subResource ?? ''
  if (subresource !== '') throw malformed(`request.subResource ${JSON.stringify(subresource)} is not served`)
  const dryRun = request.dryRun ?? false
  if (typeof dryRun !== 'boolean') throw malformed('request.dryRun is not a boolean')
  return {
    uid: text(request.uid, 'request.uid'),
    resource: [resource.group, resource.version, resource.resource].filter(part => part !== '').join('/'),
    operation: text(request.operation, 'request.operation'),
    namespace: namespaceName(request.namespace, 'request.namespace'),
    dryRun,
    object: object(request.object, 'request.object'),
  }
}

/** The pod that is to be created. @throws PosternError PSTN_ADMISSION_MALFORMED for anything else. */
export function podOf(request: AdmissionRequest): V1Pod {
  expectResource(request, 'v1/pods', ['CREATE'])
  const metadata = object(request.object.metadata, 'request.object.metadata')
  const spec = object(request.object.spec, 'request.object.spec')
  const where = 'request.object.metadata.annotations'
  texts(metadata.annotations, where)
  const annotations = Object.entries(metadata.annotations ?? {})
    .flat()
    .join('')
  if (Buffer.byteLength(annotations) > MAX_ANNOTATION_BYTES)
    throw malformed(`${where} holds more than ${MAX_ANNOTATION_BYTES} bytes`)
  for (const field of ['containers', 'initContainers', 'volumes'])
    named(spec[field], `request.object.spec.${field}`)
  return request.object as V1Pod
}

/** The ConfigMap as it is to be. @throws PosternError PSTN_ADMISSION_MALFORMED for anything else. */
export function configMapOf(request: AdmissionRequest): V1ConfigMap {
  expectResource(request, 'v1/configmaps', ['CREATE', 'UPDATE'])
  const metadata = object(request.object.metadata, 'request.object.metadata')
  texts(metadata.labels, 'request.object.metadata.labels')
  texts(request.object.data, 'request.object.data')
  texts(request.object.binaryData, 'request.object.binaryData')
  return request.object as V1ConfigMap
}

/** The AdmissionReview that answers `uid`. */
export function admissionReview(uid: string, answer: AdmissionAnswer): object {
  return {
    apiVersion: ADMISSION_API_VERSION,
    kind: 'AdmissionReview',
    response: { uid, ...responseOf(answer) },
  }
}

function responseOf(answer: AdmissionAnswer): object {
  if (answer.kind === 'refuse') {
    const { code, message } = answer
    const hint = CODES[code].hint
    return {
      allowed: false,
      status: { code: 403, reason: 'Forbidden', message: `${code}: ${message}. ${hint}` },
    }
  }
  const { patch = [], warnings = [] } = answer
  return {
    allowed: true,
    ...(patch.length > 0 && {
      patchType: 'JSONPatch',
      patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
    }),
    ...(warnings.length > 0 && { warnings }),
  }
}

function expectResource(
  { resource, operation }: AdmissionRequest,
  wanted: string,
  operations: string[],
): void {
  if (resource !== wanted) throw malformed(`request.resource is ${resource}, not ${wanted}`)
  if (!operations.includes(operation)) throw malformed(`request.operation is ${operation}, not ${operations}`)
}

function parseJson(body: Buffer): unknown {
  if (!isUtf8(body)) throw malformed('the body is not UTF-8')
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    throw malformed('the body is not JSON')
  }
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function object(value: unknown, where: string): Json {
  if (!isObject(value)) throw malformed(`${where} is not an object`)
  return value
}

function text(value: unknown, where: string): string {
  if (typeof value !== 'string' || value === '') throw malformed(`${where} is not a text`)
  return value
}

/** It becomes part of paths that the API server is asked with our rights: `..` and the like are none (RFC 1123). */
function namespaceName(value: unknown, where: string): string {
  const name = text(value, where)
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
    throw malformed(`${where} is no name of a namespace`)
  return name
}

/** Absent, null, or an object of texts. */
function texts(value: unknown, where: string): void {
  for (const each of Object.values(object(value ?? {}, where)))
    if (typeof each !== 'string') throw malformed(`${where} holds something that is not a text`)
}

/** Absent, null, or a list of objects with names. */
function named(value: unknown, where: string): void {
  const list = value ?? []
  if (!Array.isArray(list)) throw malformed(`${where} is not a list`)
  list.forEach((element, index) => {
    text(object(element, `${where}[${index}]`).name, `${where}[${index}].name`)
  })
}
