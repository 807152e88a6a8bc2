import t from 'tap'
import { parseRenewalOrders, type RenewalOrder, renewalOf } from '../../../shared/renewal-order.ts'
import {
  checkKeys,
  formatList,
  MAX_REVOCATIONS,
  parseRevocations,
  type Revocation,
  revokedAt,
} from '../../../shared/revocation-list.ts'

const NOW = Date.parse('2026-11-21T12:00:00Z')
const INJECTOR = 'spiffe://cluster.local/ns/postern-system/sa/postern-injector'
const noted = { since: '2026-11-21T11:00:00Z', reason: 'a key was found', by: 'alice' }
const serial: Revocation = { kind: 'serial', serial: '4f0a', ...noted }
const identity: Revocation = {
  kind: 'identity',
  identity: 'spiffe://cluster.local/ns/shop/sa/cart',
  ...noted,
}
const pod: Revocation = { kind: 'pod', namespace: 'shop', name: 'cart-0', uid: 'uid-1', ...noted }
const list = [serial, identity, pod]

t.test('a list is read back as it was written, an entry a line', async t => {
  const text = formatList(list)
  t.same(parseRevocations(text), list)
  t.equal(text.split('\n').length, list.length + 3)
  t.same(parseRevocations(formatList([])), [])
})

t.test('no list, or a blank one, revokes nobody', async t => {
  t.same(parseRevocations(undefined), [])
  t.same(parseRevocations(' \n'), [])
})

const bad: Readonly<Record<string, readonly [text: string, says: RegExp]>> = {
  'what is no JSON': ['[{"kind": "serial"', /^revocations\.json: .*JSON/],
  'a comma too much, with what is around it': [
    '[\n  {},\n]',
    /^revocations\.json: .*\{\},\n\]" is not valid JSON/s,
  ],
  'a comma too little, with its place': [
    '[\n  {"a": 1\n "b": 2}\n]',
    /^revocations\.json: .*line 3 column 2/,
  ],
  'a mapping': ['{}', /^revocations\.json: must be a list/],
  'an unknown kind': [
    JSON.stringify([{ ...serial, kind: 'host' }]),
    /^revocations\.json\[0\]\.kind: must be one of/,
  ],
  'a serial with colons': [
    JSON.stringify([{ ...serial, serial: '4f:0a' }]),
    /\[0\]\.serial: must be a serial/,
  ],
  'a misspelt key': [JSON.stringify([serial, { ...serial, untill: 'x' }]), /\[1\]\.untill: unknown key/],
  'an entry that says nothing of who': [
    JSON.stringify([{ kind: 'serial', serial: '4f', since: noted.since, reason: '' }]),
    /\[0\]\.by: is missing/,
  ],
  'an identity that is none': [
    JSON.stringify([{ ...identity, identity: 'spiffe://cluster.local' }]),
    /\[0\]\.identity: .*path is empty/,
  ],
  'a time that is none': [JSON.stringify([{ ...pod, until: 'tomorrow' }]), /\[0\]\.until: must be a time/],
  'a date without a time': [
    JSON.stringify([{ ...pod, until: '2026-11-21' }]),
    /\[0\]\.until: must be a time/,
  ],
  'a reason that is a novel': [
    JSON.stringify([{ ...pod, reason: 'x'.repeat(201) }]),
    /\[0\]\.reason: must be text/,
  ],
  'the injector’s own identity': [
    JSON.stringify([serial, { ...identity, identity: INJECTOR }]),
    /\[1\]\.identity: the injector’s own/,
  ],
  'too many': [
    JSON.stringify(Array.from({ length: MAX_REVOCATIONS + 1 }, () => serial)),
    /10001 entries; at most 10000/,
  ],
}
for (const [name, [text, says]] of Object.entries(bad)) {
  t.test(`refuses ${name}`, async t => {
    t.throws(() => parseRevocations(text, INJECTOR), { code: 'PSTN_REVOCATION_INVALID', message: says })
  })
}

t.test('a misspelt key of the ConfigMap is refused: it would revoke nobody', async t => {
  t.doesNotThrow(() => checkKeys({ 'revocations.json': '', 'renewals.json': '' }, undefined))
  t.throws(() => checkKeys({ 'revocation.json': '' }), {
    code: 'PSTN_REVOCATION_INVALID',
    message: /unknown key/,
  })
  t.throws(() => checkKeys({}, { 'revocations.yaml': '' }), { code: 'PSTN_REVOCATION_INVALID' })
})

t.test('what is pushed is what is in force, each but once', async t => {
  t.same(revokedAt([...list, serial], NOW), {
    serials: ['4f0a'],
    identities: ['spiffe://cluster.local/ns/shop/sa/cart'],
    pods: ['uid-1'],
  })
  const until = { ...serial, until: '2026-11-21T12:00:00Z' }
  t.same(revokedAt([until], NOW - 1).serials, ['4f0a'])
  t.same(revokedAt([until], NOW).serials, [])
  t.same(revokedAt([until, serial], NOW).serials, ['4f0a'], 'another entry may last longer')
})

t.test('the largest list that is accepted fits into what a sidecar reads', async t => {
  const many = Array.from({ length: MAX_REVOCATIONS }, (_, index) => ({
    ...serial,
    serial: index.toString(16).padStart(40, '4f'),
  }))
  const revoked = revokedAt(parseRevocations(JSON.stringify(many)), NOW)
  const bytes = Buffer.byteLength(JSON.stringify(revoked))
  t.comment(`${bytes} bytes`)
  t.ok(bytes < 1024 * 1024)
})

const ordered = { before: '2026-11-21T12:00:00Z', withinSeconds: 600, by: 'alice' }
const all: RenewalOrder = { kind: 'all', ...ordered }
const one: RenewalOrder = { kind: 'pod', namespace: 'shop', name: 'cart-0', uid: 'uid-1', ...ordered }

t.test('of several orders the latest that concerns a pod counts', async t => {
  const later = { before: '2026-11-21T13:00:00.5Z', withinSeconds: 0 }
  t.equal(renewalOf([], 'uid-1'), undefined)
  t.equal(renewalOf([one], 'uid-2'), undefined)
  t.same(renewalOf([all], 'uid-2'), { before: ordered.before, withinSeconds: 600 })
  t.same(renewalOf([{ ...one, ...later }, all], 'uid-1'), later)
  t.same(renewalOf([one, { ...all, ...later }], 'uid-1'), later)
})

t.test('orders are read strictly', async t => {
  t.same(parseRenewalOrders(formatList([all, one])), [all, one])
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ ...all, withinSeconds: 700_000 }, /\[0\]\.withinSeconds: must be a whole number/],
    [{ ...all, before: 'now' }, /\[0\]\.before: must be a time/],
    [{ ...all, uid: 'x' }, /\[0\]\.uid: unknown key/],
    [{ ...ordered, kind: 'pod' }, /\[0\]\.namespace: is missing/],
  ]
  for (const [order, says] of wrong) {
    t.throws(() => parseRenewalOrders(JSON.stringify([order])), {
      code: 'PSTN_REVOCATION_INVALID',
      message: says,
    })
  }
  const many = JSON.stringify(Array.from({ length: 1_001 }, () => all))
  t.throws(() => parseRenewalOrders(many), { message: /at most 1000/ })
})
