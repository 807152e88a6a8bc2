// How many rules are looked at: what the index is for. That it finds the right one is a property test.
import t from 'tap'
import type { CompiledRule } from '../../../../shared/policy/compiled-rule.ts'
import type { SourceMatch } from '../../../../shared/policy/model.ts'
import { findRule, indexRules } from '../../../../shared/policy/rule-index.ts'
import { compileSource, type KnownCaller } from '../../../../shared/policy/source-match.ts'

const MANY = Array.from({ length: 10_000 }, (_, index) => index)
const decision = { allow: true } as const
const caller: KnownCaller = {
  principal: 'td/ns/n7/sa/a7',
  trustDomain: 'td',
  isForeign: false,
  own: { namespace: 'n7', account: 'n7/a7' },
}

const lookedAt = (rules: readonly CompiledRule[], whom: { caller?: KnownCaller } = { caller }) => {
  let count = 0
  const matches = () => {
    count += 1
    return false
  }
  const question = {
    action: 'ALLOW',
    caller: whom.caller,
    request: { caller: { address: '' }, port: 7 },
    anyRequest: false,
  } as const
  findRule(indexRules(rules, 'callers'), matches, question)
  return count
}
const from = (source: SourceMatch): CompiledRule => ({ from: [compileSource(source)], decision })

t.test('of ten thousand rules only those are looked at that name the caller or the port', async t => {
  t.equal(lookedAt(MANY.map(n => from({ principals: [`td/ns/n${n}/sa/a${n}`] }))), 1)
  t.equal(lookedAt(MANY.map(n => from({ serviceAccounts: [`n${n}/a${n}`] }))), 1)
  t.equal(lookedAt(MANY.map(n => from({ namespaces: [`n${n % 100}`] }))), 100)
  t.equal(lookedAt(MANY.map(n => ({ to: [{ ports: new Set([n]) }], decision }))), 1)
  t.equal(lookedAt(MANY.map(n => from({ principals: [`td/ns/n${n}/*`] }))), 10_000, 'control')
})

t.test('a caller that is not known is looked up by its port alone', async t => {
  const rules = MANY.map(n => from({ principals: [`td/ns/n${n}/sa/a${n}`] }))
  t.equal(lookedAt(rules, {}), 0)
})

t.test('a rule of many callers and many ports is indexed by one of them', async t => {
  const principals = MANY.map(n => `td/ns/n${n}/sa/a`)
  const rule: CompiledRule = { ...from({ principals }), to: [{ ports: new Set(MANY) }] }
  const { byCaller, byPort, others } = indexRules([rule], 'callers')
  t.same([byCaller.size, byPort.size, others.length], [10_000, 0, 0])
})
