import t from 'tap'
import {
  isReady,
  NEVER_READY,
  nextReadiness,
  type Readiness,
  type ReadinessFacts,
} from '../../../../proxy/admin/readiness.ts'

const COMPLETE: ReadinessFacts = { certificate: 'valid', refusal: undefined, trust: true, policy: true }
const LATCHED: Readiness = { latched: true, reasons: [] }

type Case = {
  readonly name: string
  readonly from: Readiness
  readonly facts: Partial<ReadinessFacts>
  readonly reasons: readonly (string | RegExp)[]
}

const CASES: readonly Case[] = [
  { name: 'ready once certificate, trust and policy are there', from: NEVER_READY, facts: {}, reasons: [] },
  {
    name: 'not ready before the first certificate',
    from: NEVER_READY,
    facts: { certificate: 'missing' },
    reasons: ['no certificate yet'],
  },
  {
    name: 'a refused first certificate is the reason',
    from: NEVER_READY,
    facts: { certificate: 'missing', refusal: 'PSTN_CSR_DENIED' },
    reasons: ['no certificate yet: PSTN_CSR_DENIED'],
  },
  {
    name: 'an expired certificate from before a restart does not make ready',
    from: NEVER_READY,
    facts: { certificate: 'expired' },
    reasons: ['the certificate has expired'],
  },
  {
    name: 'every missing thing is named',
    from: NEVER_READY,
    facts: { certificate: 'missing', trust: false, policy: false },
    reasons: ['no certificate yet', 'no trust bundle yet', 'no policy yet'],
  },
  {
    name: 'not ready before the files are there that applications start with',
    from: NEVER_READY,
    facts: { certFiles: false },
    reasons: ['no certificate files yet'],
  },
  {
    name: 'ready once they are',
    from: NEVER_READY,
    facts: { certFiles: true },
    reasons: [],
  },
  {
    name: 'an expired certificate and a silent signer stay ready',
    from: LATCHED,
    facts: { certificate: 'expired' },
    reasons: [],
  },
  {
    name: 'an expired certificate and a signer that times out stay ready',
    from: LATCHED,
    facts: { certificate: 'expired', refusal: 'PSTN_CSR_TIMEOUT' },
    reasons: [],
  },
  {
    name: 'a refused renewal with a valid certificate stays ready',
    from: LATCHED,
    facts: { refusal: 'PSTN_CSR_DENIED' },
    reasons: [],
  },
  {
    name: 'an expired certificate and a denied renewal unready',
    from: LATCHED,
    facts: { certificate: 'expired', refusal: 'PSTN_CSR_DENIED' },
    reasons: [/PSTN_CSR_DENIED/],
  },
  {
    name: 'an expired certificate and a source that denies it unready',
    from: LATCHED,
    facts: { certificate: 'expired', refusal: 'PSTN_SOURCE_NO_IDENTITY' },
    reasons: ['the certificate has expired and its renewal fails: PSTN_SOURCE_NO_IDENTITY'],
  },
  {
    name: 'an identity that was taken back unreadies, whatever its source says since',
    from: LATCHED,
    facts: { certificate: 'missing', refusal: 'PSTN_SOURCE_UNAVAILABLE' },
    reasons: ['the identity was taken back'],
  },
  {
    name: 'an expired certificate and a failed renewal unready',
    from: LATCHED,
    facts: { certificate: 'expired', refusal: 'PSTN_CSR_FAILED' },
    reasons: [/PSTN_CSR_FAILED/],
  },
  {
    name: 'a new certificate makes ready again',
    from: { latched: true, reasons: ['the certificate has expired'] },
    facts: {},
    reasons: [],
  },
  {
    name: 'lost trust and policy do not unready what was ready',
    from: LATCHED,
    facts: { trust: false, policy: false },
    reasons: [],
  },
]

for (const { name, from, facts, reasons } of CASES) {
  t.test(name, async t => {
    const next = nextReadiness(from, { ...COMPLETE, ...facts })
    t.equal(next.reasons.length, reasons.length)
    t.match(next.reasons, reasons)
    t.equal(isReady(next), reasons.length === 0)
    t.equal(next.latched, from.latched || isReady(next))
  })
}
