import t from 'tap'
import { bundleOf, type CaMaterial, createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import { revived, unexplained } from '../../../../injector/ca/lineage.ts'
import {
  begin,
  disgrace,
  dropRetired,
  fingerprintOf,
  formerRoots,
  type MeshFacts,
  nextStep,
  recordOf,
  replaceRoot,
  revocationOf,
  type Step,
  schedule,
  skip,
  switchRoots,
  withoutRoot,
} from '../../../../injector/ca/rotation.ts'

const HOUR = 3_600_000
const start = Date.parse('2026-01-01T00:00:00Z')
const root = await createRoot('cluster.local', start)
const issuer = await createIssuer(root, 'cluster.local', start)
const next = await createRoot('cluster.local', start)
const nextIssuer = await createIssuer(next, 'cluster.local', start)
const third = await createRoot('cluster.local', start)
const thirdIssuer = await createIssuer(third, 'cluster.local', start)
const print = ({ certificate }: { certificate: string }) => fingerprintOf(certificate)
const asking = { by: 'alice', now: start }

const idle: CaMaterial = { root, issuer }
const publishing = begin(idle, next, [], asking)
const drop = start + 24 * HOUR
const seen = switchRoots(publishing, nextIssuer, start + HOUR)
const switched = schedule(seen, { drop, seen: start + HOUR })

const calm: MeshFacts = { now: start + HOUR, obstacles: [], longestLeafMs: 24 * HOUR }
const holder = (hours: number) => ({
  pod: 'shop/old',
  uid: 'uid-old',
  serial: '0a',
  notAfter: new Date(start + hours * HOUR).toISOString(),
})
const held = schedule(seen, {
  drop: start + 72 * HOUR + 300_000,
  seen: start + HOUR,
  heldBy: holder(72),
})
const issuerEnds = start + 30 * 24 * HOUR

const steps: readonly [string, CaMaterial, Partial<MeshFacts>, object][] = [
  ['nothing is done while nobody asks', idle, {}, { kind: 'rest' }],
  [
    'a pod that lacks the next root is waited for',
    publishing,
    { obstacles: ['shop/web'] },
    { kind: 'wait', for: ['shop/web'] },
  ],
  [
    'a root that was just published does not sign yet',
    publishing,
    { now: start + 59_000 },
    { kind: 'wait', until: start + 60_000 },
  ],
  ['with every pod confirmed it signs', publishing, {}, { kind: 'switch' }],
  [
    'the old one stays for the longest life and the skew of clocks, from when the switch is seen',
    seen,
    { now: start + 2 * HOUR },
    { kind: 'schedule', drop: start + 26 * HOUR + 300_000 },
  ],
  [
    'a certificate in use that lives longer keeps the old root longer',
    seen,
    { last: holder(72) },
    { kind: 'schedule', drop: start + 72 * HOUR + 300_000, heldBy: holder(72) },
  ],
  [
    'but never beyond its issuer, which no certificate outlives',
    seen,
    { last: holder(9_000) },
    { kind: 'schedule', drop: issuerEnds + 300_000 },
  ],
  [
    'one that ends before any that is signed now says nothing',
    seen,
    { last: holder(24) },
    { kind: 'schedule', drop: start + 25 * HOUR + 300_000 },
  ],
  [
    'whoever waits is told on whose account',
    held,
    {},
    { kind: 'wait', for: [/on account of pod shop\/old, .* skip or revoke it/] as unknown as string[] },
  ],
  [
    'a pod that is skipped, revoked or gone keeps the old root no longer, from when the switch was seen',
    held,
    { now: start + 5 * HOUR, released: true },
    { kind: 'schedule', drop: start + 25 * HOUR + 300_000, heldBy: undefined },
  ],
  [
    'short lives need less skew: who is further off could not have renewed in time',
    seen,
    { longestLeafMs: 30_000 },
    { kind: 'schedule', drop: start + HOUR + 60_000 },
  ],
  ['an old root is kept until its time', switched, { now: drop - 1 }, { kind: 'wait', until: drop }],
  [
    'pods that cannot be reached do not keep an old root',
    switched,
    { now: drop, obstacles: ['shop/web'] },
    { kind: 'drop' },
  ],
  [
    'a clock that differs by what clocks may decides nothing else',
    switched,
    { now: drop, skewMs: 300_000 },
    { kind: 'drop' },
  ],
  ...[switched, seen].map((material): (typeof steps)[number] => [
    'a leader whose clock is a day ahead neither drops a root nor says when',
    material,
    { now: drop + 24 * HOUR, skewMs: 24 * HOUR },
    { kind: 'wait', for: [/86400 s ahead of the API server’s/] as unknown as string[] },
  ]),
  [
    'nor does it take a next root for published long enough',
    publishing,
    { skewMs: -24 * HOUR },
    { kind: 'wait', for: [/86400 s behind/] as unknown as string[] },
  ],
]
for (const [name, material, facts, step] of steps) {
  t.test(name, async t => {
    t.match(nextStep(material, { ...calm, ...facts }), step satisfies Partial<Step>)
  })
}

t.test('the bundle has both roots from the publication to the drop, the one that signs first', async t => {
  const prints = (material: CaMaterial) => bundleOf(material).map(fingerprintOf)
  t.same(prints(idle), [print(root)])
  t.same(prints(publishing), [print(root), print(next)])
  t.same(prints(switched), [print(next), print(root)])
  t.same(prints(dropRetired(switched, drop)), [print(next)])
})

t.test('the old root’s key is gone with the switch', async t => {
  t.notMatch(JSON.stringify(switched), JSON.stringify(root.key).slice(1, -1))
  t.match(JSON.stringify(publishing), JSON.stringify(root.key).slice(1, -1), 'it was there before')
})

t.test('skipped pods are remembered once each, with who asked', async t => {
  const pod = (uid: string) => ({ pod: `shop/${uid}`, uid, by: 'bob', at: new Date(start).toISOString() })
  const twice = skip(skip(publishing, [pod('a')]), [pod('a'), pod('b')])
  t.same(
    recordOf(twice).rotation?.skipped.map(({ uid }) => uid),
    ['a', 'b'],
  )
  t.equal(skip(idle, [pod('a')]), idle, 'where nothing rotates there is nothing to skip')
})

t.test('a rotation that is over leaves its root among the former ones', async t => {
  const over = dropRetired(switched, drop)
  t.match(recordOf(over), {
    phase: 'idle',
    former: [{ fingerprint: print(root), end: 'retired', by: 'alice' }],
  })
  t.notOk(recordOf(over).rotation)
})

t.test('revoking a root that signs nothing', async t => {
  t.same(revocationOf(publishing, print(next)), { kind: 'next' })
  const given = withoutRoot(publishing, print(next), asking)
  t.match(given, { root, issuer, record: { phase: 'idle', former: [{ end: 'withdrawn' }] } })
  t.notOk(given.next, 'the rotation is given up')

  t.same(revocationOf(switched, print(root)), { kind: 'retired' })
  const dropped = withoutRoot(switched, print(root), asking)
  t.match(dropped, {
    root: next,
    record: { phase: 'idle', former: [{ fingerprint: print(root), end: 'revoked' }] },
  })
  t.same(bundleOf(dropped).map(fingerprintOf), [print(next)])
})

t.test('revoking the root that signs', async t => {
  t.same(revocationOf(idle, print(root)), { kind: 'present' })
  const replaced = replaceRoot(idle, { root: third, issuer: thirdIssuer }, asking)
  t.same(bundleOf(replaced).map(fingerprintOf), [print(third)], 'leaves the new one alone')
  t.match(recordOf(replaced), { phase: 'idle', former: [{ fingerprint: print(root), end: 'revoked' }] })

  const promoted = replaceRoot(publishing, { root: next, issuer: nextIssuer }, asking)
  t.same(
    bundleOf(promoted).map(fingerprintOf),
    [print(next)],
    'ends a rotation with the root that is known already',
  )
  t.equal(recordOf(promoted).phase, 'idle')

  const middle = replaceRoot(switched, { root: third, issuer: thirdIssuer }, asking)
  t.same(bundleOf(middle).map(fingerprintOf), [print(third), print(root)], 'leaves an older one its time')
  t.equal(recordOf(middle).phase, 'switched')
})

t.test('revoking what is no root says why', async t => {
  t.match(revocationOf(idle, print(third)), { kind: 'unknown', says: /no root/ })
  const revoked = replaceRoot(idle, { root: third, issuer: thirdIssuer }, asking)
  t.match(revocationOf(revoked, print(root)), {
    kind: 'unknown',
    says: /not been trusted since .* \(revoked\)/,
  })
})

t.test(
  'connections of a root that went in good order may end in peace, until it is revoked after all',
  async t => {
    t.same(
      formerRoots(switched),
      { retired: [], revoked: [] },
      'not while it may still be revoked with all that it signed',
    )
    const gone = dropRetired(switched, drop)
    t.same(formerRoots(gone), { retired: [print(root)], revoked: [] })
    t.same(revocationOf(gone, print(root)), { kind: 'former' })
    const disgraced = disgrace(gone, print(root), asking)
    t.same(formerRoots(disgraced), { retired: [], revoked: [print(root)] })
    t.match(recordOf(disgraced).former, [{ fingerprint: print(root), end: 'revoked', by: asking.by }])
    t.match(revocationOf(disgraced, print(root)), { kind: 'unknown' })
    const revoked = withoutRoot(switched, print(root), asking)
    t.same(
      formerRoots(revoked),
      { retired: [], revoked: [print(root)] },
      'one that is revoked leaves nothing',
    )
    const withdrawn = withoutRoot(publishing, print(next), asking)
    t.same(formerRoots(withdrawn), { retired: [], revoked: [print(next)] }, 'and is not to come back')
  },
)

t.test('another root is followed where the record says how it came, however much was missed', async t => {
  const over = dropRetired(switched, drop)
  const replaced = replaceRoot(idle, { root: third, issuer: thirdIssuer }, asking)
  const follows = (from: CaMaterial, to: CaMaterial) => unexplained(bundleOf(from), to).length === 0
  for (const [name, from, to, wanted] of [
    ['a next root', idle, publishing, true],
    ['the switch', publishing, switched, true],
    ['the whole rotation at once', idle, over, true],
    ['a revocation', idle, replaced, true],
    ['a rotation that was given up', publishing, withoutRoot(publishing, print(next), asking), true],
    ['another root without a word', idle, { root: third, issuer: thirdIssuer }, false],
    ['a backup from before the rotation', over, idle, false],
    ['an old root that is left out by hand', switched, { root: next, issuer: nextIssuer }, false],
  ] as const)
    t.equal(follows(from, to), wanted, name)
})

t.test('a root that was revoked is not trusted again, whatever else a backup holds', async t => {
  const promoted = replaceRoot(publishing, { root: next, issuer: nextIssuer }, asking)
  t.same(unexplained(bundleOf(promoted), publishing), [], 'the present root is in the backup too')
  t.same(revived(recordOf(promoted).former, publishing), [print(root)])
  t.same(revived(recordOf(promoted).former, begin(promoted, third, [], asking)), [], 'another rotation')
  t.same(
    revived(recordOf(dropRetired(switched, drop)).former, publishing),
    [],
    'one whose time was over does no harm',
  )
})
