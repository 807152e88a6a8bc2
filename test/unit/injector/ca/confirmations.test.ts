import t from 'tap'
import { exemption, longestPresented, unconfirmed } from '../../../../injector/ca/confirmations.ts'
import type { Gathered, SidecarReport } from '../../../../shared/control/sidecar-report.ts'
import { NOBODY_REVOKED, type Revoked, revocationCheck } from '../../../../shared/revocation.ts'
import { workloadSpiffeId } from '../../../../shared/spiffe-id.ts'

const NEXT = 'ab'.repeat(32)
const OLD = '01'.repeat(32)
const TIME = '2026-01-01T00:00:00.000Z'

const report = (pod: string, roots: readonly string[]): SidecarReport => ({
  podUid: `uid-${pod}`,
  pod,
  namespace: 'shop',
  version: '0.2.0',
  replica: 'injector-0',
  roots,
  connectedSince: TIME,
})
const absent = (pod: string, more: object = {}) => ({
  podUid: `uid-${pod}`,
  pod,
  namespace: 'shop',
  starting: false,
  ...more,
})
const mesh: Gathered = {
  reports: [report('web', [OLD, NEXT]), report('behind', [OLD]), report('new', [])],
  missing: [],
  unconnected: [
    absent('silent'),
    absent('lost', { last: { ...report('lost', [OLD, NEXT]), endedAt: TIME } }),
    absent('starting', { starting: true }),
  ],
}

const skipping = (pods: Parameters<typeof exemption>[0]) =>
  exemption(
    pods,
    () => undefined,
    () => undefined,
  )

t.test('each pod that has not confirmed is named with its reason', async t => {
  t.same(unconfirmed(mesh, NEXT, skipping([])), [
    { pod: 'shop/behind', reason: 'its sidecar (0.2.0) has only 010101010101' },
    { pod: 'shop/lost', reason: `not connected since ${TIME}` },
    { pod: 'shop/new', reason: 'connected, but its sidecar (0.2.0) has not said which roots it trusts' },
    { pod: 'shop/silent', reason: 'not connected' },
  ])
})

t.test('a namespace is skipped with the pods that are yet to come, and no other', async t => {
  const all = (namespace: string) => skipping([{ pod: `${namespace}/*`, uid: '*', by: 'a', at: TIME }])
  t.same(unconfirmed(mesh, NEXT, all('shop')), [])
  t.equal(unconfirmed(mesh, NEXT, all('sho')).length, 4)
})

t.test('a pod is skipped by its uid: its successor of the same name is waited for', async t => {
  const skipped = ['behind', 'lost', 'silent'].map(pod => ({
    pod: `shop/${pod}`,
    uid: `uid-${pod}`,
    by: 'a',
    at: TIME,
  }))
  const other = { pod: 'shop/new', uid: 'uid-of-its-predecessor', by: 'a', at: TIME }
  t.same(
    unconfirmed(mesh, NEXT, skipping([...skipped, other])).map(({ pod }) => pod),
    ['shop/new'],
  )
})

t.test('who is revoked is not waited for: pods, and all pods of an identity', async t => {
  const identity = workloadSpiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'db' })
  const waitedFor = (list: Partial<Revoked>) => {
    const revoked = revocationCheck({ ...NOBODY_REVOKED, ...list })
    const isExempt = exemption([], revoked, uid => (uid === 'uid-silent' ? identity : undefined))
    return unconfirmed(mesh, NEXT, isExempt).map(({ pod }) => pod)
  }
  t.same(waitedFor({ pods: ['uid-behind', 'uid-lost'] }), ['shop/new', 'shop/silent'])
  t.same(waitedFor({ identities: [identity] }), ['shop/behind', 'shop/lost', 'shop/new'])
})

t.test('the certificate that expires last is one that was presented, of a pod that counts', async t => {
  const own = (pod: string, serial: string, day: number, presented: boolean): SidecarReport => ({
    ...report(pod, [NEXT]),
    certificate: { serial, notAfter: `2026-01-0${day}T00:00:00.000Z`, ...(presented && { presented }) },
  })
  const gathered: Gathered = {
    reports: [own('web', '01', 2, true), own('liar', '02', 9, false), own('old', '03', 5, true)],
    missing: [],
    unconnected: [absent('lost', { last: { ...own('lost', '04', 7, true), endedAt: TIME } })],
  }
  const last = (revoked: Partial<Revoked> = {}) =>
    longestPresented(
      gathered,
      exemption([], revocationCheck({ ...NOBODY_REVOKED, ...revoked }), () => undefined),
    )
  t.same(last(), { pod: 'shop/lost', uid: 'uid-lost', serial: '04', notAfter: '2026-01-07T00:00:00.000Z' })
  t.match(last({ serials: ['04'] }), { pod: 'shop/old' })
  t.match(last({ serials: ['04'], pods: ['uid-old'] }), { pod: 'shop/web' })
})
