import t from 'tap'
import {
  admissionReview,
  configMapOf,
  parseAdmissionReview,
  podOf,
} from '../../../../injector/webhook/admission.ts'
import { podReview, policyReview, withPod, withRequest } from './reviews.ts'

const MALFORMED = 'PSTN_ADMISSION_MALFORMED'
const json = (value: unknown) => Buffer.from(JSON.stringify(value))

t.test('a real review of a pod is read', async t => {
  const request = parseAdmissionReview(json(podReview))
  t.match(request, { resource: 'v1/pods', operation: 'CREATE', namespace: 'shop', dryRun: false })
  t.equal(podOf(request).metadata?.generateName, 'web-')
})

t.test('a real review of a ConfigMap is read', async t => {
  const request = parseAdmissionReview(json(policyReview))
  t.strictSame(Object.keys(configMapOf(request).data ?? {}), ['a.yaml'])
})

t.test('fields that a newer API server might send are accepted', async t => {
  t.ok(parseAdmissionReview(withRequest({ somethingNew: { deep: true } })))
})

const malformed: readonly { name: string; body: Buffer; message: RegExp }[] = [
  { name: 'nothing', body: Buffer.alloc(0), message: /not JSON/ },
  { name: 'bytes that are no text', body: Buffer.from([0xff, 0xfe, 0x00]), message: /not UTF-8/ },
  { name: 'a text that is no JSON', body: Buffer.from('hello'), message: /not JSON/ },
  { name: 'half a review', body: json(podReview).subarray(0, 500), message: /not JSON/ },
  { name: 'nesting without end', body: Buffer.from('['.repeat(100_000)), message: /not JSON/ },
  { name: 'a number', body: json(1), message: /the body is not an object/ },
  { name: 'null', body: json(null), message: /the body is not an object/ },
  { name: 'a list', body: json([podReview]), message: /the body is not an object/ },
  { name: 'an empty object', body: json({}), message: /apiVersion is not admission\.k8s\.io\/v1/ },
  {
    name: 'v1beta1',
    body: json({ ...podReview, apiVersion: 'admission.k8s.io/v1beta1' }),
    message: /apiVersion/,
  },
  { name: 'another kind', body: json({ ...podReview, kind: 'TokenReview' }), message: /kind is not/ },
  {
    name: 'no request',
    body: json({ ...podReview, request: undefined }),
    message: /request is not an object/,
  },
  { name: 'no uid', body: withRequest({ uid: undefined }), message: /request\.uid/ },
  { name: 'an empty uid', body: withRequest({ uid: '' }), message: /request\.uid/ },
  { name: 'a uid that is a number', body: withRequest({ uid: 7 }), message: /request\.uid/ },
  { name: 'no resource', body: withRequest({ resource: null }), message: /request\.resource/ },
  {
    name: 'a subresource',
    body: withRequest({ subResource: 'exec' }),
    message: /subResource "exec" is not served/,
  },
  { name: 'no namespace', body: withRequest({ namespace: undefined }), message: /request\.namespace/ },
  { name: 'a dryRun of text', body: withRequest({ dryRun: 'yes' }), message: /request\.dryRun/ },
  { name: 'no object', body: withRequest({ object: null }), message: /request\.object is not/ },
]
for (const { name, body, message } of malformed)
  t.test(`${name} is refused`, async t => {
    t.throws(() => parseAdmissionReview(body), { code: MALFORMED, message })
  })

const deployments = { group: 'apps', version: 'v1', resource: 'deployments' }
const noPods: readonly { name: string; body: Buffer; message: RegExp }[] = [
  {
    name: 'a Deployment',
    body: withRequest({ resource: deployments }),
    message: /apps\/v1\/deployments, not v1\/pods/,
  },
  { name: 'an update of a pod', body: withRequest({ operation: 'UPDATE' }), message: /UPDATE, not CREATE/ },
  { name: 'a pod without metadata', body: withPod({ metadata: null }), message: /metadata is not an object/ },
  { name: 'a pod without spec', body: withPod({ spec: undefined }), message: /spec is not an object/ },
  {
    name: 'annotations that are a list',
    body: withPod({ metadata: { annotations: [] } }),
    message: /annotations/,
  },
  {
    name: 'an annotation that is a number',
    body: withPod({ metadata: { annotations: { a: 1 } } }),
    message: /annotations/,
  },
  {
    name: 'a pod with more annotations than the API server stores, each of which would cost a hint,',
    body: withPod({ metadata: { annotations: { a: 'x'.repeat(200_000), b: 'x'.repeat(70_000) } } }),
    message: /annotations holds more than 262144 bytes/,
  },
  {
    name: 'containers that are an object',
    body: withPod({ spec: { containers: {} } }),
    message: /containers is not a list/,
  },
  {
    name: 'a container that is a text',
    body: withPod({ spec: { containers: ['app'] } }),
    message: /containers\[0\]/,
  },
  {
    name: 'a volume without a name',
    body: withPod({ spec: { volumes: [{}] } }),
    message: /volumes\[0\]\.name/,
  },
]
for (const { name, body, message } of noPods)
  t.test(`${name} is refused where pods are created`, async t => {
    t.throws(() => podOf(parseAdmissionReview(body)), { code: MALFORMED, message })
  })

t.test('null lists and missing annotations are a pod', async t => {
  const body = withPod({ metadata: {}, spec: { containers: null, initContainers: null } })
  t.ok(podOf(parseAdmissionReview(body)))
})

t.test('an allowed object without a patch names none', async t => {
  t.strictSame(admissionReview('u', { kind: 'allow', patch: [] }), {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid: 'u', allowed: true },
  })
})

t.test('a patch is base64 of JSON', async t => {
  const patch = [{ op: 'add', path: '/ä', value: 1 }] as const
  t.match(admissionReview('u', { kind: 'allow', patch, warnings: ['w'] }), {
    response: {
      allowed: true,
      patchType: 'JSONPatch',
      patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
      warnings: ['w'],
    },
  })
})

t.test('a refusal carries code, message and what to do', async t => {
  t.match(admissionReview('u', { kind: 'refuse', code: 'PSTN_INJECT_REFUSED', message: 'spec.hostPID: x' }), {
    response: {
      allowed: false,
      status: { code: 403, message: /^PSTN_INJECT_REFUSED: spec\.hostPID: x\. The message names the field/ },
    },
  })
})
