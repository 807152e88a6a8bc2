// What Postern relies on in a Kubernetes API server, as one suite that runs against the embedded cluster and the real one:
// whatever passes on both is a promise that the demo keeps as a cluster would.

import { generateKeyPairSync } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { Test } from 'tap'
import { type Kube, KubeError } from '../../shared/kube/rest.ts'
import {
  csrName,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  WORKLOAD_ROLE,
  WORKLOAD_SIGNER,
} from '../../shared/names.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import { testAuthority } from '../support/certificates.ts'

export type Subject = {
  readonly admin: Kube
  /** A client with the token of service account `web` in `namespace`, bound to `pod` when given. */
  asPod(namespace: string, pod?: { name: string; uid: string }): Promise<Kube>
}

type Meta = {
  name: string
  uid?: string
  namespace?: string
  resourceVersion?: string
  labels?: Record<string, string>
}
type Object_ = { metadata: Meta; [field: string]: unknown }
type List = { metadata: { resourceVersion: string }; items: Object_[] }
type Event = { type: string; object: Object_ & { code?: number } }

const CSRS = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
const configMaps = (namespace: string) => `/api/v1/namespaces/${namespace}/configmaps`

async function refusal(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return 'accepted'
  } catch (error) {
    if (error instanceof KubeError) return `${error.status} ${error.reason}`
    throw error
  }
}

function requestFor(podUid: string, name = csrName(podUid, 0), extra: Record<string, unknown> = {}): Object_ {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const id = workloadSpiffeId({ trustDomain: 'cluster.local', namespace: 'contract', serviceAccount: 'web' })
  const request = Buffer.from(createCsr({ publicKey, privateKey }, id)).toString('base64')
  const usages = ['digital signature', 'server auth', 'client auth']
  return {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name },
    spec: { request, signerName: WORKLOAD_SIGNER, usages, expirationSeconds: 3600, ...extra },
  }
}

async function* events(kube: Kube, path: string, signal: AbortSignal): AsyncGenerator<Event> {
  let rest = ''
  for await (const chunk of await kube.stream(path, signal)) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') yield JSON.parse(line) as Event
  }
}

async function prepare({ admin }: Subject): Promise<Object_> {
  const ignore = (call: Promise<unknown>) =>
    call.catch(error => {
      if (!(error instanceof KubeError && error.status === 409)) throw error
    })
  for (const name of ['contract', SYSTEM_NAMESPACE])
    await ignore(
      admin.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }),
    )
  await ignore(
    admin.create('/api/v1/namespaces/contract/serviceaccounts', {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'web' },
    }),
  )
  await ignore(
    admin.create(configMaps(SYSTEM_NAMESPACE), {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: TRUST_CONFIGMAP },
      data: { 'trust-domain': 'cluster.local' },
    }),
  )
  const subjects = [
    { kind: 'Group', name: 'system:serviceaccounts:contract', apiGroup: 'rbac.authorization.k8s.io' },
  ]
  const roleRef = { kind: 'ClusterRole', name: WORKLOAD_ROLE, apiGroup: 'rbac.authorization.k8s.io' }
  await ignore(
    admin.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: `${WORKLOAD_ROLE}:contract` },
      subjects,
      roleRef,
    } as Object_),
  )
  const spec = { serviceAccountName: 'web', nodeName: 'node-1', containers: [{ name: 'app', image: 'app' }] }
  return admin.create<Object_>('/api/v1/namespaces/contract/pods', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `web-${Date.now()}` },
    spec,
  })
}

export async function contract(t: Test, subject: Subject): Promise<void> {
  const { admin } = subject
  const pod = await prepare(subject)
  const uid = pod.metadata.uid ?? ''
  const asPod = await subject.asPod('contract', { name: pod.metadata.name, uid })

  await t.test('a second object of the same name is refused with AlreadyExists', async t => {
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `twice-${uid}` } }
    await admin.create(configMaps('contract'), object)
    t.equal(await refusal(admin.create(configMaps('contract'), object)), '409 AlreadyExists')
  })

  await t.test('a replace from a stale resourceVersion is refused with Conflict', async t => {
    const object: Object_ = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `stale-${uid}` },
      data: { a: '1' },
    }
    const first = await admin.create(configMaps('contract'), object)
    const path = `${configMaps('contract')}/${object.metadata.name}`
    await admin.replace(path, { ...first, data: { a: '2' } })
    t.equal(await refusal(admin.replace(path, { ...first, data: { a: '3' } })), '409 Conflict')
    t.match(await admin.get(path), { data: { a: '2' } })
  })

  await t.test('a merge patch removes what is null and keeps the rest', async t => {
    const object: Object_ = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `merge-${uid}` },
      data: { a: '1', b: '2' },
    }
    await admin.create(configMaps('contract'), object)
    const path = `${configMaps('contract')}/${object.metadata.name}`
    const patched = await admin.patch<Object_>(path, 'application/merge-patch+json', {
      data: { a: null, c: '3' },
    })
    t.same(patched.data, { b: '2', c: '3' })
  })

  await t.test('what does not exist is NotFound', async t => {
    t.equal(await refusal(admin.get(`${configMaps('contract')}/nothing`)), '404 NotFound')
  })

  await t.test('lists are filtered by label and by name, and carry a resourceVersion', async t => {
    const labels = { 'contract/pick': uid }
    await admin.create(configMaps('contract'), {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `picked-${uid}`, labels },
    })
    const byLabel = await admin.get<List>(`${configMaps('contract')}?labelSelector=contract/pick%3D${uid}`)
    t.same(
      byLabel.items.map(({ metadata }) => metadata.name),
      [`picked-${uid}`],
    )
    const byName = await admin.get<List>(
      `${configMaps('contract')}?fieldSelector=metadata.name%3Dpicked-${uid}`,
    )
    t.equal(byName.items.length, 1)
    t.match(byName.metadata.resourceVersion, /^\d+$/)
  })

  await t.test('a watch from a list misses nothing that happens after it', async t => {
    const { metadata } = await admin.get<List>(configMaps('contract'))
    const name = `watched-${uid}`
    const path = `${configMaps('contract')}/${name}`
    const created = await admin.create<Object_>(configMaps('contract'), {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name },
      data: { a: '1' },
    })
    await admin.replace(path, { ...created, data: { a: '2' } })
    await admin.delete(path)
    const query = `watch=1&resourceVersion=${metadata.resourceVersion}&allowWatchBookmarks=true&timeoutSeconds=20`
    const seen: string[] = []
    const stop = new AbortController()
    for await (const { type, object } of events(admin, `${configMaps('contract')}?${query}`, stop.signal)) {
      if (object.metadata.name === name) seen.push(type)
      if (type === 'DELETED') break
    }
    t.same(seen, ['ADDED', 'MODIFIED', 'DELETED'])
  })

  t.test(
    'a request carries the identity that the API server vouches for, not what its author writes',
    async t => {
      const created = await asPod.create<Object_>(
        CSRS,
        requestFor(uid, csrName(uid, 0), { username: 'system:admin' }),
      )
      const key = (name: string) => `authentication.kubernetes.io/${name}`
      t.match(created.spec, {
        username: 'system:serviceaccount:contract:web',
        extra: {
          [key('pod-name')]: [pod.metadata.name],
          [key('pod-uid')]: [uid],
          [key('node-name')]: ['node-1'],
        },
      })
    },
  )

  await t.test('a pod may create and get requests, and not list, approve or delete them', async t => {
    const name = csrName(uid, 1)
    const created = await asPod.create<Object_>(CSRS, requestFor(uid, name))
    t.equal((await asPod.get<Object_>(`${CSRS}/${name}`)).metadata.name, name)
    t.equal(await refusal(asPod.get(CSRS)), '403 Forbidden')
    t.equal(await refusal(asPod.delete(`${CSRS}/${name}`)), '403 Forbidden')
    const status = { conditions: [{ type: 'Approved', status: 'True', reason: 'Mine' }] }
    t.equal(await refusal(asPod.replace(`${CSRS}/${name}/approval`, { ...created, status })), '403 Forbidden')
  })

  await t.test('approval and status are kept apart, and a certificate is set once', async t => {
    const name = csrName(uid, 2)
    const created = await asPod.create<Object_>(CSRS, requestFor(uid, name))
    const condition = { type: 'Approved', status: 'True', reason: 'Contract', message: 'tested' }
    const approved = await admin.replace<Object_>(`${CSRS}/${name}/approval`, {
      ...created,
      status: { conditions: [condition] },
    })
    t.match(approved.status, { conditions: [{ type: 'Approved', reason: 'Contract' }] })
    const both = { conditions: [condition, { ...condition, type: 'Denied' }] }
    t.equal(
      await refusal(admin.replace(`${CSRS}/${name}/approval`, { ...approved, status: both })),
      '422 Invalid',
    )
    const { leaf } = await (await testAuthority('cluster.local')).issue({
      identity: 'spiffe://cluster.local/ns/contract/sa/web',
    })
    const certificate = Buffer.from(leaf).toString('base64')
    const signed = await admin.replace<Object_>(`${CSRS}/${name}/status`, {
      ...approved,
      status: { ...(approved.status as object), certificate },
    })
    t.match(signed.status, { certificate, conditions: [{ type: 'Approved' }] })
    const other = Buffer.from(`${leaf}${leaf}`).toString('base64')
    t.equal(
      await refusal(
        admin.replace(`${CSRS}/${name}/status`, {
          ...signed,
          status: { ...(signed.status as object), certificate: other },
        }),
      ),
      '422 Invalid',
    )
  })

  await t.test('requests are listed by signer', async t => {
    const list = await admin.get<List>(
      `${CSRS}?fieldSelector=spec.signerName%3D${encodeURIComponent(WORKLOAD_SIGNER)}`,
    )
    t.ok(list.items.some(({ metadata }) => metadata.name === csrName(uid, 0)))
    const none = await admin.get<List>(`${CSRS}?fieldSelector=spec.signerName%3Dexample.com%2Fother`)
    t.equal(none.items.length, 0)
  })

  await t.test('too short an expiration and an unreadable request are Invalid', async t => {
    t.equal(
      await refusal(asPod.create(CSRS, requestFor(uid, csrName(uid, 3), { expirationSeconds: 60 }))),
      '422 Invalid',
    )
    t.equal(
      await refusal(asPod.create(CSRS, requestFor(uid, csrName(uid, 3), { request: 'Z2FyYmFnZQ==' }))),
      '422 Invalid',
    )
  })

  await t.test('a pod may read the trust bundle and no other ConfigMap of that namespace', async t => {
    t.equal(
      (await asPod.get<Object_>(`${configMaps(SYSTEM_NAMESPACE)}/${TRUST_CONFIGMAP}`)).metadata.name,
      TRUST_CONFIGMAP,
    )
    t.equal(await refusal(asPod.get(`${configMaps(SYSTEM_NAMESPACE)}/other`)), '403 Forbidden')
    t.equal(await refusal(asPod.get(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/secrets`)), '403 Forbidden')
  })

  await t.test('the name of a request must fit the pod of the token', async t => {
    const other = await admin.create<Object_>('/api/v1/namespaces/contract/pods', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `other-${Date.now()}` },
      spec: pod.spec,
    } as Object_)
    const forged = () =>
      refusal(asPod.create(`${CSRS}?dryRun=All`, requestFor(uid, csrName(other.metadata.uid ?? '', 0))))
    // A real API server begins to enforce an admission policy about a second after it was applied.
    const deadline = Date.now() + 15_000
    while ((await forged()) === 'accepted' && Date.now() < deadline) await setTimeout(200)
    t.equal(await forged(), '422 Invalid')
  })
}
