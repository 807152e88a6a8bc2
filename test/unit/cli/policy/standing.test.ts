import t from 'tap'
import { rowsOf } from '../../../../cli/policy/standing.ts'
import type { SidecarReport, Unconnected } from '../../../../shared/control/sidecar-report.ts'
import type { PolicyDocument } from '../../../../shared/policy/document.ts'

const document = (name: string, app?: string, more: object = {}): PolicyDocument => ({
  kind: 'AuthorizationPolicy',
  namespace: 'shop',
  ...(app && { selector: { app } }),
  policy: {
    kind: 'AuthorizationPolicy',
    name: `shop/${name}`,
    action: 'ALLOW',
    rules: [],
    features: ['l4', 'when'],
  },
  ...more,
})
const report = (pod: string, more: Partial<SidecarReport> = {}): SidecarReport => ({
  podUid: pod,
  pod,
  namespace: 'shop',
  version: '0.1.0',
  replica: 'injector-0',
  roots: [],
  state: { version: 3, toldAt: '2030-01-01T00:00:00.000Z', applied: 3 },
  connectedSince: '2030-01-01T00:00:00.000Z',
  ...more,
})
const gone = (pod: string, starting: boolean): Unconnected => ({
  podUid: pod,
  pod,
  namespace: 'shop',
  starting,
})
const { state: _, ...silent } = report('silent')

t.test('a policy is in force where its sidecar has applied the latest that it was told', t => {
  const known: readonly (readonly [known: SidecarReport | Unconnected, app: string])[] = [
    [report('fine'), 'a'],
    [report('late', { state: { version: 3, toldAt: 'noon', applied: 2 } }), 'a'],
    [silent, 'a'],
    [gone('away', false), 'a'],
    [gone('new', true), 'a'],
    [report('old', { lacks: ['when'] }), 'a'],
    [report('other'), 'b'],
    [report('bank', { namespace: 'bank' }), 'a'],
  ]
  const sidecars = known.map(([known, app]) => ({ known, labels: { app } }))
  t.same(rowsOf([document('one', 'a')], sidecars), [
    {
      policy: 'shop/one',
      kind: 'ALLOW',
      applied: 1,
      behind: [
        { pod: 'shop/late', why: 'it was told at noon and has not confirmed' },
        { pod: 'shop/silent', why: 'replica injector-0 of the injector does not say' },
        { pod: 'shop/away', why: 'it is not connected, and keeps what it had' },
        { pod: 'shop/new', why: 'it starts' },
        { pod: 'shop/old', why: 'version 0.1.0 does not know when, and refuses what the policy covers' },
      ],
    },
  ])
  const dry = document('dry', 'b', { watched: true })
  const rows = rowsOf([document('wide'), dry, document('none', 'c')], sidecars)
  t.match(rows, [
    { policy: 'shop/dry', kind: 'ALLOW, dry run', applied: 1, behind: [] },
    { policy: 'shop/none', applied: 0, behind: [] },
    { policy: 'shop/wide', applied: 2, behind: { length: 5 } },
  ])
  t.end()
})
