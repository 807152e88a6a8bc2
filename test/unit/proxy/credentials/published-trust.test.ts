// Which of two published bundles counts when they differ, and what a sidecar makes of a ClusterTrustBundle that is wrong.
// The real API server with and without the API is in test/kube/cluster-trust-bundle.test.ts.
import t from 'tap'
import { choose, publishedTrust } from '../../../../proxy/credentials/published-trust.ts'
import { type Kube, KubeError } from '../../../../shared/kube/rest.ts'
import { TRUST_DOMAIN_ANNOTATION } from '../../../../shared/names.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { testAuthority } from '../../../support/certificates.ts'

const TRUST_DOMAIN = 'cluster.local'
const [a, b, c] = await Promise.all(['a', 'b', 'c'].map(name => testAuthority(TRUST_DOMAIN, `CN=${name}`)))
if (!a || !b || !c) throw new Error('three authorities')
const never = new AbortController().signal
const NOBODY = { bundle: undefined, doubted: false }

const table = [
  ['at first contact', { bundle: undefined, doubted: false }, undefined, 'ClusterTrustBundle'],
  [
    'a bundle that is neither is in force',
    { bundle: c.bundle, doubted: false },
    undefined,
    'ClusterTrustBundle',
  ],
  ['the ConfigMap’s is in force', { bundle: b.bundle, doubted: false }, undefined, 'ConfigMap'],
  [
    'the ConfigMap’s is in force and has failed',
    { bundle: b.bundle, doubted: true },
    undefined,
    'ClusterTrustBundle',
  ],
  ['the other is in force', { bundle: a.bundle, doubted: false }, undefined, 'ClusterTrustBundle'],
  ['the other is in force and has failed', { bundle: a.bundle, doubted: true }, undefined, 'ConfigMap'],
  ['it was found to be behind before', { bundle: c.bundle, doubted: false }, a.bundle, 'ConfigMap'],
  [
    'another one was found to be behind before',
    { bundle: c.bundle, doubted: false },
    c.bundle,
    'ClusterTrustBundle',
  ],
] as const

for (const [name, present, outdated, wanted] of table)
  t.test(`where the two differ and ${name}, the ${wanted} counts`, async t => {
    t.equal(choose(a.bundle, b.bundle, present, outdated), wanted)
  })

type Answers = { bundle?: object | number; configMap?: object | number }

/** Answers by path, numbers as refusals, and counts the questions. */
function scripted(answers: Answers) {
  const asked: string[] = []
  const kube: Pick<Kube, 'get'> = {
    get: async <T>(path: string): Promise<T> => {
      asked.push(path)
      const answer = path.includes('clustertrustbundles') ? answers.bundle : answers.configMap
      if (typeof answer === 'object') return answer as T
      throw new KubeError(answer ?? 404, '', `answered ${answer ?? 404}`)
    },
  }
  const passedOver: string[] = []
  return {
    asked,
    passedOver,
    published: publishedTrust(kube, TRUST_DOMAIN, error => passedOver.push(error.message)),
  }
}
const bundleOf = (trustBundle: string, trustDomain = TRUST_DOMAIN) => ({
  metadata: { annotations: { [TRUST_DOMAIN_ANNOTATION]: trustDomain } },
  spec: { trustBundle },
})
const configMapOf = (roots: string) => ({ data: { 'trust-domain': TRUST_DOMAIN, 'roots.pem': roots } })

t.test('it is a set: order, repetition and text between are nothing', async t => {
  const { published, passedOver, asked } = scripted({
    bundle: bundleOf(`${b.root}text\n${a.root}${b.root}`),
    configMap: configMapOf(a.root + b.root),
  })
  const found = await published.read(never, NOBODY)
  t.same(new Set(found.roots), new Set([a.root, b.root]))
  t.same(passedOver, [])
  const before = asked.length
  await published.read(never, {
    bundle: { trustDomain: TRUST_DOMAIN, roots: [a.root, b.root] },
    doubted: false,
  })
  t.equal(
    asked.length,
    before + 2,
    'also where nothing has changed: the other may know of a root that was revoked',
  )
})

t.test('a wrong one is passed over with the reason, told once, and the ConfigMap serves', async t => {
  const leaf = (await a.issue({ identity: 'spiffe://cluster.local/a' })).leaf
  const wrong = {
    'another trust domain': [bundleOf(a.root, 'elsewhere'), /"elsewhere"/],
    'no trust domain': [{ ...bundleOf(a.root), metadata: {} }, /""/],
    'no root': [bundleOf('text'), /no root/],
    'a leaf': [bundleOf(leaf), /no CA/],
  } as const
  for (const [name, [bundle, because]] of Object.entries(wrong)) {
    const { published, passedOver } = scripted({ bundle, configMap: configMapOf(b.root) })
    t.same(await published.read(never, NOBODY), b.bundle, name)
    await published.read(never, NOBODY)
    t.match(passedOver, [because])
    t.equal(passedOver.length, 1)
  }
})

t.test(
  'a root that the ConfigMap knows to be revoked goes, although the bundle in force is what the other holds',
  async t => {
    const revoked = parseCertificate(a.root).fingerprint256
    const { published } = scripted({
      bundle: bundleOf(a.root + b.root),
      configMap: { data: { ...configMapOf(b.root).data, 'revoked-roots': revoked } },
    })
    const inForce = { trustDomain: TRUST_DOMAIN, roots: [a.root, b.root] }
    t.match(await published.read(never, { bundle: inForce, doubted: false }), {
      roots: [b.root],
      former: { revoked: [revoked] },
    })
  },
)

t.test('what was not there at first contact is not asked for again; what was there and goes, is', async t => {
  const answers: Answers = { configMap: configMapOf(b.root) }
  const { published, asked } = scripted(answers)
  await published.read(never, NOBODY)
  t.equal(asked.length, 3, 'v1, v1beta1, ConfigMap')
  await published.read(never, NOBODY)
  t.equal(asked.length, 4)

  const later: Answers = { bundle: bundleOf(a.root), configMap: configMapOf(a.root) }
  const other = scripted(later)
  await other.published.read(never, NOBODY)
  later.bundle = 404
  t.same(await other.published.read(never, NOBODY), a.bundle)
  later.bundle = bundleOf(b.root)
  later.configMap = configMapOf(b.root)
  t.same(await other.published.read(never, NOBODY), b.bundle)
})

t.test('an API server that is away or refuses the token is no reason to ask elsewhere', async t => {
  for (const status of [401, 500, 503]) {
    const { published, asked } = scripted({ bundle: status, configMap: configMapOf(b.root) })
    await t.rejects(published.read(never, NOBODY), { code: 'PSTN_API_UNAVAILABLE' })
    t.equal(asked.length, 1)
  }
  const { published } = scripted({ bundle: bundleOf(a.root), configMap: 503 })
  t.same(await published.read(never, NOBODY), a.bundle, 'the ConfigMap alone is not missed')
})
