// An explanation that disagreed with the sidecar would be worse than none.
import fc from 'fast-check'
import t from 'tap'
import { compile } from '../../../shared/policy/compile.ts'
import { evaluate, evaluateAnyRequest } from '../../../shared/policy/evaluate.ts'
import { type ExplainedPart, explain } from '../../../shared/policy/explain.ts'
import type { PolicySet } from '../../../shared/policy/model.ts'
import { policySet, request, TRUST_DOMAIN } from './arbitraries.ts'

const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 20_000)
const own = { trustDomain: TRUST_DOMAIN }

/** Policies that nobody understands, too. */
const anySet: fc.Arbitrary<PolicySet> = fc.tuple(policySet, fc.nat({ max: 20 })).map(([set, newer]) => ({
  ...set,
  policies: set.policies.map((policy, index) =>
    index === newer ? { ...policy, features: ['of the future'] } : policy,
  ),
}))

t.test('what is explained is what the evaluator decides, of a request and of a connection', async t => {
  const seen = { allowed: 0, denied: 0, byRule: 0, unsupported: 0 }
  fc.assert(
    fc.property(anySet, request, fc.boolean(), (set, asked, anyRequest) => {
      const compiled = compile(set, own)
      const decision = anyRequest ? evaluateAnyRequest(compiled, asked) : evaluate(compiled, asked)
      const explained = explain(set, own, asked, anyRequest)
      seen.allowed += Number(decision.allow)
      seen.denied += Number(!decision.allow)
      seen.byRule += Number(decision.rule !== undefined)
      seen.unsupported += Number(!decision.allow && decision.code === 'PSTN_POLICY_UNSUPPORTED')
      return JSON.stringify(explained.decision) === JSON.stringify(decision)
    }),
    { numRuns: RUNS },
  )
  for (const [what, count] of Object.entries(seen))
    t.ok(count > RUNS / 200, `control: ${what} ${count} times`)
})

t.test('a rule matches as its parts say, and a part as its fields do', async t => {
  const seen = { matches: 0, misses: 0 }
  const any = (parts: readonly ExplainedPart[]) => parts.length === 0 || parts.some(({ matches }) => matches)
  fc.assert(
    fc.property(policySet, request, fc.boolean(), (set, asked, anyRequest) =>
      explain(set, own, asked, anyRequest).policies.every(({ rules }, index) =>
        rules.every(({ rule, matches, from, to, when }) => {
          if (from.concat(to, when).length === 0)
            return matches || set.policies[index]?.rules[rule] !== undefined
          seen.matches += Number(matches)
          seen.misses += Number(!matches)
          const asParts = any(from) && any(to) && when.every(part => part.matches)
          const isTrue = (part: ExplainedPart) => part.matches === part.fields.every(field => field.matches)
          return matches === asParts && from.concat(to, when).every(isTrue)
        }),
      ),
    ),
    { numRuns: RUNS },
  )
  for (const [what, count] of Object.entries(seen)) t.ok(count > RUNS / 10, `control: ${what} ${count} times`)
})
