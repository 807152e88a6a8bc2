import t from 'tap'
import { decide } from '../../../../injector/signer/approve.ts'
import { rulesFor } from '../../../../injector/signer/outside.ts'
import { isAnswered } from '../../../../injector/signer/request.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../../../shared/revocation.ts'
import { inputOf } from '../../../support/forged-case.ts'
import { NOW, type Patch, TRUST_DOMAIN } from '../../../vectors/csr/cases.ts'

const OURS = 'postern.dev/workload'
const OTHER = 'clusterissuers.cert-manager.io/postern'
const MAX_SECONDS = 86_400

function verdict(signerName: string, spec: Patch) {
  const { object, pod } = inputOf({ name: '', object: { spec: { signerName, ...spec } } })
  const knowledge = { signerName, trustDomain: TRUST_DOMAIN, revoked: revocationCheck(NOBODY_REVOKED) }
  const rules = rulesFor({ signerName, maxLeafLifetimeSeconds: MAX_SECONDS })
  const decided = decide(object, pod, knowledge, NOW, rules)
  return decided.kind === 'deny' ? decided.rule : decided.kind
}

const asked: readonly [name: string, spec: Patch, byOther: string][] = [
  ['as long as is allowed', { expirationSeconds: MAX_SECONDS }, 'approve'],
  ['a second longer', { expirationSeconds: MAX_SECONDS + 1 }, 'lifetime'],
  ['ten years', { expirationSeconds: 315_360_000 }, 'lifetime'],
  ['no lifetime, which means what its signer likes', { expirationSeconds: null }, 'lifetime'],
]
for (const [name, spec, byOther] of asked) {
  t.test(`what asks for ${name}: ${byOther} where another signs`, async t => {
    t.equal(verdict(OTHER, spec), byOther)
    t.equal(verdict(OURS, spec), 'approve', 'our own signer shortens')
  })
}

t.test('every other rule holds for another signer too', async t => {
  t.equal(verdict(OTHER, { expirationSeconds: 600, usages: ['client auth'] }), 'usages')
})

t.test('a request is done with when anybody has answered it', async t => {
  const { object } = inputOf({ name: '' })
  const withStatus = (...types: string[]) => ({
    ...object,
    status: { conditions: types.map(type => ({ type, status: 'True' })) },
  })
  t.equal(isAnswered(withStatus()), false)
  t.equal(isAnswered(withStatus('Approved')), false)
  t.equal(isAnswered(withStatus('Denied')), true)
  t.equal(isAnswered(withStatus('Approved', 'Failed')), true)
  t.equal(isAnswered({ ...object, status: { certificate: 'AAAA' } }), true)
})
