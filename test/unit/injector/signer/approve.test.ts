import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import t from 'tap'
import { decide, podOf, type Verdict } from '../../../../injector/signer/approve.ts'
import { RULES, type Rule } from '../../../../injector/signer/rules.ts'
import { forgeRequest } from '../../../support/forged-requests.ts'
import { mergePatch } from '../../../support/merge-patch.ts'
import {
  approved,
  type Case,
  honestObject,
  honestPod,
  IDENTITY,
  ignored,
  NOW,
  type Patch,
  SIGNER,
  TRUST_DOMAIN,
} from '../../../vectors/csr/corpus.ts'
import { forged } from '../../../vectors/csr/forged.ts'

const settings = { signerName: SIGNER, trustDomain: TRUST_DOMAIN }

type Input = { object: V1CertificateSigningRequest; pod: V1Pod | undefined }

function build({ csr, pem = text => text, object = {}, pod = {} }: Case): Input {
  const request = Buffer.from(pem(forgeRequest(IDENTITY, csr))).toString('base64')
  return {
    object: mergePatch(mergePatch<Patch>(honestObject, { spec: { request } }), object),
    pod: pod === null ? undefined : mergePatch(honestPod, pod),
  }
}

const judge = ({ object, pod }: Input, rules?: readonly Rule[]): Verdict =>
  decide(object, pod, settings, NOW, rules)

for (const one of approved) {
  t.test(`approves ${one.name}`, async t => {
    t.match(judge(build(one)), { kind: 'approve', identity: IDENTITY })
  })
}

for (const one of ignored) {
  t.test(`leaves alone ${one.name}`, async t => {
    t.match(judge(build(one)), { kind: 'ignore' })
  })
}

const inputs = new Map(forged.map(one => [one, build(one)]))
for (const [{ name, rule, because }, input] of inputs) {
  t.test(`denies ${name} (${rule})`, async t => {
    t.match(judge(input), { kind: 'deny', rule, reason: because })
  })
}

t.test('the corpus is large enough to mean something', async t => {
  t.ok(forged.length >= 40, `${forged.length} forged requests`)
  t.ok(approved.length >= 5)
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
  'pod-node',
  'pod-live',
  'name',
  'metadata',
  'usages',
  'canonical',
  'signature',
]) {
  t.test(`without the rule ${name} some forged request is approved`, async t => {
    const others = RULES.filter(rule => rule.name !== name)
    t.ok([...inputs.values()].some(input => judge(input, others).kind === 'approve'))
  })
}

t.test('the public key that is approved is the one of the request', async t => {
  const verdict = judge(build({ name: 'an honest request' }))
  t.equal(verdict.kind === 'approve' && verdict.publicKey.length, 91)
})

t.test('the pod to fetch comes from the token and the user name', async t => {
  t.same(podOf(build({ name: '' }).object), { namespace: 'shop', name: 'cart-7d9f' })
  t.equal(podOf(build({ name: '', object: { spec: { extra: null } } }).object), undefined)
  t.equal(podOf(build({ name: '', object: { spec: { username: 'alice' } } }).object), undefined)
})
