import t from 'tap'
import { decide, podOf, type Verdict } from '../../../../injector/signer/approve.ts'
import { RULES, type Rule } from '../../../../injector/signer/rules.ts'
import { revocationCheck } from '../../../../shared/revocation.ts'
import { type Input, inputOf } from '../../../support/forged-case.ts'
import { approved, ignored } from '../../../vectors/csr/accepted.ts'
import { extra, IDENTITY, NOW, REVOKED, SIGNER, spec, TRUST_DOMAIN } from '../../../vectors/csr/cases.ts'
import { forged } from '../../../vectors/csr/forged.ts'

const settings = { signerName: SIGNER, trustDomain: TRUST_DOMAIN, revoked: revocationCheck(REVOKED) }
const judge = ({ object, pod }: Input, rules?: readonly Rule[]): Verdict =>
  decide(object, pod, settings, NOW, rules)

for (const one of approved) {
  t.test(`approves ${one.name}`, async t => {
    t.match(judge(inputOf(one)), { kind: 'approve', identity: IDENTITY })
  })
}

for (const one of ignored) {
  t.test(`leaves alone ${one.name}`, async t => {
    t.match(judge(inputOf(one)), { kind: 'ignore' })
  })
}

const inputs = new Map(forged.map(one => [one, inputOf(one)]))
for (const [{ name, rule, because }, input] of inputs) {
  t.test(`denies ${name} (${rule})`, async t => {
    t.match(judge(input), { kind: 'deny', rule, reason: because })
  })
}

t.test('the corpus is large enough to mean something, and names no case twice', async t => {
  t.ok(forged.length >= 200, `${forged.length} forged requests`)
  t.ok(approved.length >= 10)
  const names = [...forged, ...approved, ...ignored].map(({ name }) => name)
  t.equal(new Set(names).size, names.length)
})

t.test('a reason can be shown on a terminal: what a forger wrote is escaped', async t => {
  for (const [{ name }, input] of inputs) {
    const verdict = judge(input)
    t.notMatch(verdict.kind === 'deny' && verdict.reason, /[\p{Cc}\p{Cf}\p{Cs}]/u, name)
  }
})

for (const { name } of RULES) {
  t.test(`without the rule ${name} some forged request is judged otherwise`, async t => {
    const others = RULES.filter(rule => rule.name !== name)
    const changed = [...inputs].filter(([{ rule }, input]) => {
      const verdict = judge(input, others)
      return verdict.kind !== 'deny' || verdict.rule !== rule
    })
    t.ok(changed.length > 0)
  })
}

// These alone stand between a forged request and a certificate: nothing behind them would catch it.
for (const name of [
  'pod-uid',
  'pod-service-account',
  'pod-node',
  'pod-live',
  'revoked',
  'name',
  'metadata',
  'usages',
  'size',
  'canonical',
  'signature',
]) {
  t.test(`without the rule ${name} some forged request is approved`, async t => {
    const others = RULES.filter(rule => rule.name !== name)
    t.ok([...inputs.values()].some(input => judge(input, others).kind === 'approve'))
  })
}

t.test('the public key that is approved is the one of the request', async t => {
  const verdict = judge(inputOf({ name: 'an honest request' }))
  t.equal(verdict.kind === 'approve' && verdict.publicKey.length, 91)
})

t.test('the pod to fetch comes from the token and the user name', async t => {
  t.same(podOf(inputOf({ name: '' }).object), { namespace: 'shop', name: 'cart-7d9f' })
  t.equal(podOf(inputOf({ name: '', object: spec({ extra: null }) }).object), undefined)
  t.equal(podOf(inputOf({ name: '', object: spec({ username: 'alice' }) }).object), undefined)
})

t.test('no pod is fetched by a name that is none: the path would lead elsewhere', async t => {
  for (const name of ['.', '..', 'a/status', 'a?x', '']) {
    t.equal(podOf(inputOf({ name: '', object: extra('pod-name', [name]) }).object), undefined, name)
  }
})
