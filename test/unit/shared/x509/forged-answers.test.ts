// What a sidecar is given for a request that was approved: whatever a signer can write there, it checks itself.
import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { checkIssuedChain } from '../../../../shared/x509/answer.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { forgedAnswers } from '../../../vectors/csr/answers.ts'
import { IDENTITY, TRUST_DOMAIN } from '../../../vectors/csr/cases.ts'

const authority = await testAuthority(TRUST_DOMAIN)
const forger = await testAuthority(TRUST_DOMAIN)
const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = publicKey.export({ format: 'der', type: 'spki' })
const now = Date.now()
const identity = parseSpiffeId(IDENTITY).id

for (const { name, code, because, answer } of forgedAnswers) {
  t.test(`a sidecar throws away ${name}`, async t => {
    const chainPem = await answer({ authority, forger, spki, now })
    const check = () => checkIssuedChain({ chainPem, publicKey, identity, roots: [authority.root], now })
    t.throws(check, { code, message: because })
  })
}
