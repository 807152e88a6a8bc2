import fc from 'fast-check'
import t from 'tap'
import { compile } from '../../../shared/policy/compile.ts'
import { evaluate, evaluateAnyRequest } from '../../../shared/policy/evaluate.ts'
import type { PolicySet } from '../../../shared/policy/model.ts'
import { policySet, port, request, TRUST_DOMAIN } from './arbitraries.ts'
import { reference } from './reference.ts'

const ruleText = ({ policies }: PolicySet, by: readonly [policy: string, rule: number] | undefined) =>
  JSON.stringify(policies.map(({ name, rules }) => by && name === by[0] && rules[by[1]]))

const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 20_000)

t.test(
  'the compiled policy decides as the semantics table does, and names the rule that decided',
  async t => {
    const seen = { allowed: 0, byRule: 0, opaque: 0, byUser: 0, bySegment: 0 }
    fc.assert(
      fc.property(policySet, fc.array(request, { minLength: 1, maxLength: 4 }), (set, requests) => {
        const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
        for (const asked of requests) {
          const decision = evaluate(compiled, asked)
          const { allow, by } = reference(set, TRUST_DOMAIN, asked)
          if (decision.allow !== allow || decision.rule !== by?.[1]) return false
          if (by && decision.policy !== by[0]) return false
          if (!allow) continue
          const asks = ruleText(set, by)
          seen.allowed += 1
          seen.byRule += Number(by !== undefined)
          seen.opaque += Number(asked.http === undefined)
          seen.byUser += Number(/request(Principals|.auth)/.test(asks))
          seen.bySegment += Number(asks.includes('request.path'))
        }
        return true
      }),
      { numRuns: RUNS },
    )
    for (const [what, count] of Object.entries(seen))
      t.ok(count > RUNS / 250, `control: ${what} ${count} times, otherwise nothing was compared`)
  },
)

t.test('what opaque bytes are allowed, every request is allowed: what is not known never helps', async () => {
  fc.assert(
    fc.property(policySet, request, (set, asked) => {
      const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
      const opaque = evaluate(compiled, { ...asked, http: undefined }).allow
      return !opaque || evaluate(compiled, asked).allow
    }),
    { numRuns: RUNS / 10 },
  )
})

t.test('what no request could pass, none does, and a policy without HTTP fields decides alike', async t => {
  const seen = { refused: 0, open: 0 }
  fc.assert(
    fc.property(policySet, request, (set, asked) => {
      const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
      const connection = { ...asked, http: undefined }
      const best = evaluateAnyRequest(compiled, connection)
      const opaque = evaluate(compiled, connection)
      if (!best.allow && (opaque.allow || evaluate(compiled, asked).allow)) return false
      seen.refused += Number(!best.allow)
      seen.open += Number(best.allow && !opaque.allow)
      const fields = set.policies.flatMap(({ rules }) => rules.flatMap(({ to = [] }) => to))
      const conditions = set.policies.flatMap(({ rules }) => rules.flatMap(({ when = [] }) => when))
      const sources = set.policies.flatMap(({ rules }) => rules.flatMap(({ from = [] }) => from))
      const hasHttp =
        sources.some(entry => entry.requestPrincipals ?? entry.notRequestPrincipals) ||
        conditions.some(({ key }) => key.startsWith('request.')) ||
        fields.some(entry => Object.keys(entry).some(field => !/ports$/i.test(field)))
      return hasHttp || best.allow === opaque.allow
    }),
    { numRuns: RUNS },
  )
  for (const [what, count] of Object.entries(seen)) t.ok(count > RUNS / 40, `control: ${what} ${count} times`)
})

t.test('a plaintext caller is never allowed what a rule with an identity gives', async () => {
  fc.assert(
    fc.property(policySet, port, (set, asked) => {
      const identified = set.policies.filter(({ rules }) =>
        rules.every(({ from }) =>
          from?.every(entry =>
            Object.keys(entry).some(field => !/ipBlocks$|requestPrincipals$/i.test(field)),
          ),
        ),
      )
      const allowing = identified.filter(({ action }) => action === 'ALLOW')
      if (allowing.length === 0) return true
      const compiled = compile({ ...set, policies: identified }, { trustDomain: TRUST_DOMAIN })
      return !evaluate(compiled, { caller: { address: '10.0.0.1' }, port: asked }).allow
    }),
    { numRuns: RUNS / 10 },
  )
})
