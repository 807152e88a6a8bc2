// What replicas tell of the roots: each change once, and a root's end with its reason in the same value.
import t from 'tap'
import { bundleOf, type CaMaterial, createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import {
  begin,
  dropRetired,
  fingerprintOf,
  replaceRoot,
  schedule,
  skip,
  switchRoots,
} from '../../../../injector/ca/rotation.ts'
import { wantedClusterTrustBundle } from '../../../../injector/trust/cluster-trust-bundle.ts'
import { ownTrust } from '../../../../injector/trust/own-trust.ts'
import { wantedTrust } from '../../../../injector/trust/publisher.ts'
import { readFormer, writeFormer } from '../../../../shared/former-roots.ts'
import { live } from '../../../../shared/live.ts'
import type { OwnTrust } from '../../../../shared/trust-bundle.ts'

const now = Date.now()
const asking = { by: 'alice', now }
const [root, next] = [await createRoot('cluster.local', now), await createRoot('cluster.local', now)]
const [issuer, nextIssuer] = [
  await createIssuer(root, 'cluster.local', now),
  await createIssuer(next, 'cluster.local', now),
]
const [first, second] = [root, next].map(({ certificate }) => fingerprintOf(certificate))
const outside = await createRoot('cluster.local', now)

/** What is told at each write of the Secret. */
function followed(...writes: readonly CaMaterial[]): OwnTrust[] {
  const [begins, ...others] = writes
  if (!begins) return []
  const stored = live({ material: begins })
  const told: OwnTrust[] = []
  ownTrust('cluster.local', stored, live([])).subscribe(trust => told.push(trust))
  for (const material of others) stored.set({ material })
  return told
}

const idle = { root, issuer }
const publishing = begin(idle, next, [], asking)
const skipped = skip(publishing, [
  { pod: 'shop/cart', uid: '1', by: 'alice', at: new Date(now).toISOString() },
])
const switched = switchRoots(skipped, nextIssuer, now)
const scheduled = schedule(switched, { drop: now, seen: now })

t.test('one change for each write that changes the roots, and none for the others', async t => {
  const told = followed(idle, publishing, skipped, switched, scheduled, dropRetired(scheduled, now))
  t.same(
    told.map(({ roots, former }) => [roots.length, former]),
    [
      [2, { retired: [], revoked: [] }],
      [2, { retired: [], revoked: [] }],
      [1, { retired: [first], revoked: [] }],
    ],
  )
})

t.test('a root that is revoked is not told of without it', async t => {
  const [only, ...more] = followed(idle, replaceRoot(idle, { root: next, issuer: nextIssuer }, asking))
  t.same(only?.former, { retired: [], revoked: [first] })
  t.same(only?.roots.map(fingerprintOf), [second])
  t.same(more, [])
})

t.test('roots of another signer are told before the CA’s, and as they change', async t => {
  const others = live<readonly string[]>([])
  const trust = ownTrust('cluster.local', live({ material: idle }), others)
  others.set([outside.certificate])
  t.same(trust.get().roots, [outside.certificate, ...bundleOf(idle)])
})

t.test('either object is written with what became of former roots, and once', async t => {
  const former = { retired: ['a'.repeat(64), 'b'.repeat(64)], revoked: ['c'.repeat(64)] }
  const trust: OwnTrust = { trustDomain: 'cluster.local', roots: ['one\n'], former }
  const configMap = wantedTrust(trust)
  t.same(readFormer(configMap?.data), former)
  t.equal(wantedTrust(trust, configMap), undefined)
  t.match(wantedTrust({ ...trust, former: { retired: [], revoked: [] } }, configMap), {
    data: { 'retired-roots': '', 'revoked-roots': '' },
  })
  const bundle = wantedClusterTrustBundle(trust, 'v1beta1')
  t.same(readFormer(bundle?.metadata.annotations, 'postern.dev/'), former)
  t.equal(wantedClusterTrustBundle(trust, 'v1beta1', bundle), undefined)
  t.ok(wantedClusterTrustBundle({ ...trust, former: { ...former, retired: [] } }, 'v1beta1', bundle))
})

t.test('of texts beside the roots nothing counts but fingerprints; without them nothing is said', async t => {
  t.equal(readFormer({ 'roots.pem': 'x' }), undefined)
  t.same(readFormer({ 'retired-roots': '' }), { retired: [], revoked: [] })
  t.same(readFormer({ 'revoked-roots': `x,,${'a'.repeat(64)},${'A'.repeat(64)}` }), {
    retired: [],
    revoked: ['a'.repeat(64)],
  })
  t.same(writeFormer({ retired: [], revoked: [] }), { 'retired-roots': '', 'revoked-roots': '' })
})
