import t from 'tap'
import { unconfirmed } from '../../../../injector/ca/confirmations.ts'
import type { Gathered, SidecarReport } from '../../../../shared/control/sidecar-report.ts'

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

t.test('each pod that has not confirmed is named with its reason', async t => {
  t.same(unconfirmed(mesh, NEXT, []), [
    { pod: 'shop/behind', reason: 'its sidecar (0.2.0) has only 010101010101' },
    { pod: 'shop/lost', reason: `not connected since ${TIME}` },
    { pod: 'shop/new', reason: 'connected, but its sidecar (0.2.0) has not said which roots it trusts' },
    { pod: 'shop/silent', reason: 'not connected' },
  ])
})

t.test('a namespace is skipped with the pods that are yet to come, and no other', async t => {
  const all = (namespace: string) => [{ pod: `${namespace}/*`, uid: '*', by: 'a', at: TIME }]
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
    unconfirmed(mesh, NEXT, [...skipped, other]).map(({ pod }) => pod),
    ['shop/new'],
  )
})
