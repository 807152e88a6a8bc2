// Certificates that a sidecar must throw away, however its honest request was approved: the API server does not look at
// what a signer writes. `authority` is the one whose root the sidecar trusts.
import 'reflect-metadata'
import { Extension } from '@peculiar/x509'
import { splitPem } from '../../../shared/trust-bundle.ts'
import type { IssueOptions, TestAuthority } from '../../support/certificates.ts'
import { ADMIN, IDENTITY } from './cases.ts'

export type Signing = {
  readonly authority: TestAuthority
  /** An authority of the same name with another key. */
  readonly forger: TestAuthority
  /** The key of the request, SubjectPublicKeyInfo. */
  readonly spki: Buffer
  readonly now: number
}

export type ForgedAnswer = {
  readonly name: string
  readonly code: 'PSTN_CSR_ANSWER_INVALID' | 'PSTN_CLOCK_SKEW'
  readonly because: RegExp
  /** The chain, PEM. */
  readonly answer: (signing: Signing) => Promise<string>
}

const HOUR_MS = 3_600_000

const issued = async ({ authority, spki }: Signing, options: IssueOptions): Promise<string> =>
  (await authority.issue({ identity: IDENTITY, publicKey: spki, ...options })).chain

const wrong = (
  name: string,
  because: RegExp,
  answer: ForgedAnswer['answer'] | IssueOptions,
  code: ForgedAnswer['code'] = 'PSTN_CSR_ANSWER_INVALID',
): ForgedAnswer => ({
  name,
  code,
  because,
  answer: typeof answer === 'function' ? answer : signing => issued(signing, answer),
})

export const forgedAnswers: readonly ForgedAnswer[] = [
  wrong(
    'a certificate for another key',
    /another key/,
    async ({ authority }) => (await authority.issue({ identity: IDENTITY })).chain,
  ),
  wrong('a certificate for another identity', /is for .*admin/, { identity: ADMIN }),
  wrong('a certificate of another trust domain', /trust domain/, {
    identity: 'spiffe://elsewhere/ns/shop/sa/cart',
  }),
  wrong('a certificate for two identities', /2 URI SANs/, { uris: [IDENTITY, ADMIN] }),
  wrong('a certificate for no identity', /0 URI SANs/, { uris: [], dns: ['cart.shop.svc'] }),
  wrong('a CA’s certificate', /CA certificate/, { isCa: true }),
  wrong('a certificate without extended usages', /extended key usage/, { extKeyUsage: [] }),
  wrong('a certificate with a critical extension that nobody knows', /unknown critical extension/, {
    extensions: [new Extension('1.2.3.4.5', true, Buffer.from('0500', 'hex'))],
  }),
  wrong('an expired certificate', /expired/, ({ now, ...signing }) =>
    issued(
      { now, ...signing },
      { notBefore: new Date(now - 2 * HOUR_MS), notAfter: new Date(now - HOUR_MS) },
    ),
  ),
  wrong(
    'a certificate of the future',
    /valid from/,
    ({ now, ...signing }) =>
      issued(
        { now, ...signing },
        { notBefore: new Date(now + HOUR_MS), notAfter: new Date(now + 2 * HOUR_MS) },
      ),
    'PSTN_CLOCK_SKEW',
  ),
  wrong(
    'a certificate by a CA of the same name with another key',
    /does not lead to a root/,
    ({ forger, ...rest }) => issued({ ...rest, forger, authority: forger }, {}),
  ),
  wrong('the same with the right root behind it', /does not lead to a root/, async ({ forger, ...rest }) =>
    [await issued({ ...rest, forger, authority: forger }, {}), rest.authority.root].join(''),
  ),
  wrong('a chain without its issuer', /does not lead to a root/, async ({ authority, ...rest }) => {
    const chain = await issued({ ...rest, authority: await authority.intermediate() }, {})
    return splitPem(chain)[0] ?? ''
  }),
  wrong('a chain of nine certificates', /more than 8/, async signing => {
    const leaf = await issued(signing, {})
    return leaf + signing.authority.root.repeat(8)
  }),
]
