// Whose tokens a sidecar is told to believe; and what one is told that reads none.
import t from 'tap'
import { decodeFromInjector } from '../../../../shared/control/decode.ts'
import { type FromInjector, KNOWN_FEATURES, type State } from '../../../../shared/control/messages.ts'
import { compile } from '../../../../shared/policy/compile.ts'
import { evaluate } from '../../../../shared/policy/evaluate.ts'
import { pod, policies } from '../../../support/cluster-objects.ts'
import { directoryOf, outboxTo } from '../../../support/directory.ts'
import { signingKey } from '../../../support/tokens.ts'

const JWKS = JSON.stringify(JSON.stringify({ keys: [signingKey('one').jwk] }))
const DOCUMENT = `apiVersion: policy.postern.dev/v1
kind: RequestAuthentication
metadata: {name: users}
spec: {jwtRules: [{issuer: i, audiences: [a], jwks: ${JWKS}}]}`
const BEFORE = KNOWN_FEATURES.filter(
  feature => !['requestAuthentication', 'requestPrincipals', 'pathNames'].includes(feature),
)

function stateFor(
  features: readonly string[],
  text?: string,
  config = '{"protocols":{"8080":"http1"}}',
): State {
  const directory = directoryOf({ web: pod('web', { ips: ['10.1.0.1'], config }) })
  if (text) directory.feed({ kind: 'set', resource: 'configmaps', object: policies('users', text) })
  const sent: FromInjector[] = []
  outboxTo(sent, directory, { features }).refreshState()
  const state = decodeFromInjector(JSON.stringify(sent.at(-1)))
  if (state.kind !== 'state') throw new Error('no state')
  return state
}
const decide = (state: State, port: number) =>
  evaluate(compile(state.policy, { trustDomain: 'cluster.local' }), {
    caller: { address: '10.1.0.2' },
    port,
    http: { method: 'GET', host: 'web', path: '/' },
  })

t.test('one that reads tokens is told whose, and none where there are none', async t => {
  t.match(stateFor(KNOWN_FEATURES, DOCUMENT), {
    requestAuthentication: [{ name: 'shop/users', rules: [{ issuer: 'i', keys: { kind: 'inline' } }] }],
    policy: { policies: [] },
  })
  t.strictSame(stateFor(KNOWN_FEATURES).requestAuthentication, [], 'said, so that what was is lifted')
})

t.test('one that reads none refuses what comes to its ports with requests, and no other', async t => {
  const state = stateFor(BEFORE, DOCUMENT)
  t.notOk('requestAuthentication' in state)
  t.match(decide(state, 8080), { allow: false, code: 'PSTN_POLICY_UNSUPPORTED', policy: 'shop/users' })
  t.match(decide(state, 5432), { allow: true })
  t.match(decide(stateFor(BEFORE), 8080), { allow: true }, 'control: without a document')
  t.strictSame(stateFor(BEFORE, DOCUMENT, '{}').policy.policies, [])
})
