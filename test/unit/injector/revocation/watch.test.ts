import t from 'tap'
import { revocationEvent } from '../../../../injector/revocation/report.ts'
import { revocationRecord } from '../../../../injector/revocation/watch.ts'

const INJECTOR = 'spiffe://cluster.local/ns/postern-system/sa/postern-injector'
const serial = { kind: 'serial', serial: '4f0a', since: '2026-11-21T11:00:00Z', reason: '', by: 'alice' }
const order = { kind: 'all', before: '2026-11-21T11:00:00Z', withinSeconds: 60, by: 'alice' }
const configMap = (revocations: unknown, renewals: unknown = []) => ({
  data: { 'revocations.json': JSON.stringify(revocations), 'renewals.json': JSON.stringify(renewals) },
})
const read = (
  ...args: Parameters<typeof revocationRecord> extends [infer A, infer B, string] ? [A, B?] : never
) => revocationRecord(args[0], args[1], INJECTOR)

t.test('without a ConfigMap nobody is revoked', async t => {
  t.same(read(undefined), { revocations: [], renewals: [], problems: [] })
  t.same(read({}), { revocations: [], renewals: [], problems: [] })
})

t.test('a version that cannot be read changes nothing, and says where it is wrong', async t => {
  const good = read(configMap([serial], [order]))
  t.match(good, { revocations: [serial], renewals: [order], problems: [] })
  const bad = read(configMap([serial, { ...serial, serial: 'XX' }], [order]), good)
  t.match(bad, { revocations: [serial], renewals: [order] })
  t.match(bad.problems, [/^revocations\.json\[1\]\.serial: must be a serial/])
  t.match(read({ data: { 'revocation.json': '[]' } }, good), {
    revocations: [serial],
    problems: [/unknown key/],
  })
  t.match(read(configMap([]), bad), { revocations: [], problems: [] }, 'the next good one holds')
})

t.test('a list that is deleted stays in force, and one that is empty lifts everything', async t => {
  const good = read(configMap([serial]))
  const gone = /^revocations\.json is gone: to lift everything, write an empty list$/
  t.match(read(undefined, good), { revocations: [serial], problems: [gone] })
  t.match(read({ data: { 'renewals.json': '[]' } }, good), { revocations: [serial], problems: [gone] })
  t.same(read(configMap([]), good), { revocations: [], renewals: [], problems: [] })
  t.same(read(undefined, read(configMap([]), good)).problems, [])
})

t.test('where there never was a good one, nobody knows who is revoked', async t => {
  const first = read(configMap('nonsense'))
  t.equal(first.revocations, undefined)
  t.equal(read(configMap('more nonsense'), first).revocations, undefined)
  t.same(read(undefined, first).revocations, [], 'until it is deleted')
})

t.test('an order to renew that cannot be read is no reason to refuse anybody, nor the other way', async t => {
  const record = read(configMap([serial], 'nonsense'))
  t.match(record, { revocations: [serial], renewals: [], problems: [/^renewals\.json/] })
  t.match(read(configMap('nonsense', [order])), { revocations: undefined, renewals: [order] })
})

t.test('the Event says what is wrong, and what that means', async t => {
  const bad = read(configMap('nonsense'))
  t.match(revocationEvent(bad, 0), {
    reason: 'RevocationsInvalid',
    involvedObject: { kind: 'ConfigMap', namespace: 'postern-system', name: 'postern-revocations' },
    message: /PSTN_REVOCATION_INVALID: revocations\.json: must be a list .*serves no sidecar/,
  })
  t.match(revocationEvent(read(configMap('nonsense'), read(undefined)), 0), {
    message: /last good version stays/,
  })
})
