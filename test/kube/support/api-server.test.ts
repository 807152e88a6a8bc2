import t from 'tap'
import { connectKube, isKubeError } from '../../../shared/kube/rest.ts'
import { type ApiServer, startApiServer } from '../../support/api-server.ts'
import { requireApiServer } from '../../support/requirements.ts'
import { certificateRequest } from './certificate-request.ts'

const skip = requireApiServer()
let server: ApiServer

t.before(async () => {
  if (!skip) server = await startApiServer()
})
t.teardown(() => server?.[Symbol.asyncDispose]())

t.test(
  'a certificate request made with a pod-bound token carries what the API server vouches for',
  { skip },
  async t => {
    const { kube } = server
    await kube.create('/api/v1/namespaces', { metadata: { name: 'shop' } })
    await kube.create('/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: 'cart' } })
    const pod = await kube.create<{ metadata: { name: string; uid?: string }; spec: object }>(
      '/api/v1/namespaces/shop/pods',
      {
        metadata: { name: 'cart-0' },
        spec: { serviceAccountName: 'cart', containers: [{ name: 'app', image: 'none' }] },
      },
    )
    const uid = pod.metadata.uid ?? ''
    const role = await server.kubectl([
      'create',
      'clusterrole',
      'request',
      '--verb=create',
      '--resource=certificatesigningrequests',
    ])
    t.equal(role.code, 0, role.stderr)
    const granted = await server.kubectl([
      'create',
      'clusterrolebinding',
      'request',
      '--clusterrole=request',
      '--serviceaccount=shop:cart',
    ])
    t.equal(granted.code, 0, granted.stderr)

    const token = await server.tokenFor('shop', 'cart', { pod: { name: 'cart-0', uid } })
    using asPod = connectKube(server.endpointFor(token))
    const created = await asPod.create<{ spec: Record<string, unknown> }>(
      '/apis/certificates.k8s.io/v1/certificatesigningrequests',
      {
        metadata: { name: `postern-${uid}-0` },
        spec: {
          signerName: 'postern.dev/workload',
          request: await certificateRequest('spiffe://cluster.local/ns/shop/sa/cart'),
          usages: ['digital signature', 'server auth', 'client auth'],
        },
      } as { spec: Record<string, unknown> },
    )
    t.equal(created.spec.username, 'system:serviceaccount:shop:cart')
    t.match(created.spec.extra, {
      'authentication.kubernetes.io/pod-uid': [uid],
      'authentication.kubernetes.io/pod-name': ['cart-0'],
    })
  },
)

t.test('what RBAC does not grant is forbidden', { skip }, async t => {
  using anonymous = connectKube({ server: server.serverUrl, ca: server.ca })
  const refused = await anonymous.get('/api/v1/pods').catch((error: unknown) => error)
  t.ok(isKubeError(refused, 403))
})

t.test('after an outage the API server still has its objects', { skip }, async t => {
  await server.kube.create('/api/v1/namespaces', { metadata: { name: 'kept' } })
  await server.stop()
  await t.rejects(server.kube.get('/api/v1/namespaces/kept'))
  await server.start()
  await t.resolves(server.kube.get('/api/v1/namespaces/kept'))
})
