// What is written as ClusterTrustBundle; who may, and where, is in test/kube/cluster-trust-bundle.test.ts.
import t from 'tap'
import { wantedClusterTrustBundle } from '../../../../injector/trust/cluster-trust-bundle.ts'
import type { ClusterTrustBundle } from '../../../../shared/cluster-trust-bundle.ts'
import { CLUSTER_TRUST_BUNDLE, TRUST_DOMAIN_ANNOTATION, WORKLOAD_SIGNER } from '../../../../shared/names.ts'

const bundle = { trustDomain: 'cluster.local', roots: ['one\n', 'two\n'] }
const right: ClusterTrustBundle = {
  apiVersion: 'certificates.k8s.io/v1',
  kind: 'ClusterTrustBundle',
  metadata: { name: CLUSTER_TRUST_BUNDLE, annotations: { [TRUST_DOMAIN_ANNOTATION]: 'cluster.local' } },
  spec: { signerName: WORKLOAD_SIGNER, trustBundle: 'one\ntwo\n' },
}
const held = (change: Partial<ClusterTrustBundle>): ClusterTrustBundle => ({
  ...right,
  ...change,
  metadata: { ...right.metadata, resourceVersion: '7', ...change.metadata },
})

t.test('the name is the signer’s, as the API server wants it', async t => {
  t.ok(CLUSTER_TRUST_BUNDLE.startsWith(`${WORKLOAD_SIGNER.replace('/', ':')}:`))
})

t.test('all roots, each once, and whose they are', async t => {
  t.same(wantedClusterTrustBundle(bundle, 'v1'), right)
  t.same(wantedClusterTrustBundle({ ...bundle, roots: ['one\n', 'two\n', 'one\n'] }, 'v1'), right)
  t.equal(wantedClusterTrustBundle(bundle, 'v1beta1')?.apiVersion, 'certificates.k8s.io/v1beta1')
})

t.test('nothing is written where it is right, and what others added stays', async t => {
  t.equal(wantedClusterTrustBundle(bundle, 'v1', held({})), undefined)
  const annotations = { other: 'x', [TRUST_DOMAIN_ANNOTATION]: 'cluster.local' }
  t.equal(
    wantedClusterTrustBundle(bundle, 'v1', held({ metadata: { name: CLUSTER_TRUST_BUNDLE, annotations } })),
    undefined,
  )
})

t.test('what differs is put right over what was read', async t => {
  const wrong = {
    'other roots': held({ spec: { signerName: WORKLOAD_SIGNER, trustBundle: 'one\n' } }),
    'another order': held({ spec: { signerName: WORKLOAD_SIGNER, trustBundle: 'two\none\n' } }),
    'no trust domain': held({ metadata: { name: CLUSTER_TRUST_BUNDLE, annotations: {} } }),
    'another trust domain': held({
      metadata: { name: CLUSTER_TRUST_BUNDLE, annotations: { [TRUST_DOMAIN_ANNOTATION]: 'elsewhere' } },
    }),
  }
  for (const [name, present] of Object.entries(wrong))
    t.same(wantedClusterTrustBundle(bundle, 'v1', present), held({}), name)
})
