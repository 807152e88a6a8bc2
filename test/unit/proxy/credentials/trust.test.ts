import t, { type Test } from 'tap'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../../../proxy/credentials/trust.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { scriptedApi } from '../../../support/scripted-api.ts'
import { memory } from '../../../support/trust-sources.ts'

const TRUST_DOMAIN = 'cluster.local'
const first = await testAuthority(TRUST_DOMAIN)
const second = await testAuthority(TRUST_DOMAIN)
const leaf = await first.issue({ identity: 'spiffe://cluster.local/ns/a/sa/b' })
const never = new AbortController().signal

async function published(t: Test, trust: Record<string, string>) {
  const api = await scriptedApi({ username: '', podUid: '' })
  api.trust = trust
  const volume = openStateVolume(scratchDirectory(t), error => t.fail(error.message))
  t.teardown(async () => {
    await volume.read('trust.json')
    await api[Symbol.asyncDispose]()
  })
  const open = () => openTrustStore(api.kube, TRUST_DOMAIN, volume)
  return { api, volume, open }
}

const good = { 'trust-domain': TRUST_DOMAIN, 'roots.pem': first.root }

t.test('the published bundle is read, announced and kept for a restart', async t => {
  const { api, open } = await published(t, good)
  const store = await open()
  t.equal(store.bundle.get(), undefined)
  let changes = 0
  store.bundle.subscribe(() => changes++)
  await store.refresh(never)
  await store.refresh(never)
  t.same(store.bundle.get(), first.bundle)
  t.equal(changes, 1, 'the same roots again are no change')
  api.outage = { status: 503, message: 'down' }
  await store.refresh(never).catch(() => {})
  t.same((await open()).bundle.get(), first.bundle, 'after a restart during an outage')
})

t.test('two roots during a rotation are both taken, once each', async t => {
  const { open } = await published(t, { ...good, 'roots.pem': first.root + second.root + first.root })
  const store = await open()
  await store.refresh(never)
  t.same(store.bundle.get()?.roots, [first.root, second.root])
})

t.test('a wrong bundle is refused with the reason and the last good one stays', async t => {
  const { api, open } = await published(t, good)
  const store = await open()
  await store.refresh(never)
  const cases = [
    ['of another domain', { ...good, 'trust-domain': 'elsewhere' }, /"elsewhere", not cluster.local/],
    ['without a domain', { 'roots.pem': first.root }, /""/],
    ['without roots', { ...good, 'roots.pem': '' }, /no root/],
    ['with a leaf', { ...good, 'roots.pem': first.root + leaf.leaf }, /is no CA/],
    ['with garbage', { ...good, 'roots.pem': first.root.replace('MII', 'AAA') }, /not a certificate/],
  ] as const
  for (const [name, trust, message] of cases) {
    api.trust = trust
    await t.rejects(store.refresh(never), { code: 'PSTN_TRUST_INVALID', message }, name)
    t.same(store.bundle.get(), first.bundle)
  }
  api.outage = { status: 403, message: 'forbidden' }
  await t.rejects(store.refresh(never), { code: 'PSTN_API_UNAVAILABLE', message: /forbidden/ })
  t.same(store.bundle.get(), first.bundle)
})

t.test('a bundle that the control stream pushed is adopted if it is ours', async t => {
  const { open } = await published(t, good)
  const store = await open()
  const foreign = { trustDomain: 'elsewhere', roots: [second.root] }
  store.adopt([foreign, second.bundle])
  t.same(store.bundle.get(), second.bundle)
  t.throws(() => store.adopt([foreign]), { code: 'PSTN_TRUST_INVALID' })
  t.throws(() => store.adopt([{ trustDomain: TRUST_DOMAIN, roots: [] }]), { code: 'PSTN_TRUST_INVALID' })
  t.same(store.bundle.get(), second.bundle)
})

t.test('etcd put back to before a rotation costs no root that a control stream tells of', async t => {
  const { api, volume } = await published(t, good)
  const told: string[] = []
  const store = await openTrustStore(api.kube, TRUST_DOMAIN, volume, error => told.push(error.message))
  const { fingerprint256: present } = parseCertificate(second.root)
  const stream = new AbortController()
  store.adopt([second.bundle], undefined, stream.signal)
  await store.refresh(never)
  t.same(store.bundle.get(), second.bundle)
  t.same(store.vouching.get(), [second.root], 'nor a connection')
  t.match(told, [new RegExp(`lacks the root ${present}`)])

  await t.test('control: what else is published counts', async t => {
    const third = (await testAuthority(TRUST_DOMAIN)).root
    for (const [name, trust, roots] of [
      ['one root more', { 'roots.pem': second.root + third }, [second.root, third]],
      ['one that was retired', { 'roots.pem': third, 'retired-roots': present }, [third]],
      ['one that was revoked', { 'roots.pem': first.root, 'revoked-roots': present }, [first.root]],
    ] as const) {
      const fresh = await openTrustStore(api.kube, TRUST_DOMAIN, memory())
      fresh.adopt([second.bundle], undefined, stream.signal)
      api.trust = { ...good, ...trust }
      await fresh.refresh(never)
      t.same(fresh.bundle.get()?.roots, roots, name)
    }
  })

  await t.test('control: whoever has no stream, or doubts it, believes what is published', async t => {
    api.trust = good
    const doubting = await openTrustStore(api.kube, TRUST_DOMAIN, memory())
    doubting.adopt([second.bundle], undefined, stream.signal)
    await doubting.refresh(never, 'doubt')
    t.same(doubting.bundle.get(), first.bundle)
    stream.abort()
    await store.refresh(never)
    t.same(store.bundle.get(), first.bundle)
  })
})

t.test('a message that is refused leaves no mark: the right one after it is taken whole', async t => {
  const { open } = await published(t, good)
  const store = await open()
  store.adopt([first.bundle])
  const both = { trustDomain: TRUST_DOMAIN, roots: [first.root, second.root] }
  const former = { retired: [], revoked: [parseCertificate(first.root).fingerprint256] }
  t.throws(() => store.adopt([first.bundle], former), { message: /every root that it holds is revoked/ })
  store.adopt([both])
  t.same(store.bundle.get(), both)
  store.adopt([both], former)
  t.same(store.bundle.get(), second.bundle, 'control: what is taken is remembered')
})

t.test(
  'that a root was revoked is kept for a restart, also where it had been retired and no root changed',
  async t => {
    const { open } = await published(t, good)
    const store = await open()
    const { fingerprint256: gone } = parseCertificate(first.root)
    const both = { trustDomain: TRUST_DOMAIN, roots: [first.root, second.root] }
    store.adopt([both])
    store.adopt([second.bundle], { retired: [gone], revoked: [] })
    store.adopt([second.bundle], { retired: [], revoked: [gone] })
    const restarted = await open()
    t.same(restarted.bundle.get(), second.bundle)
    restarted.adopt([both])
    t.same(restarted.bundle.get(), second.bundle, 'a replica that is behind does not bring it back')
  },
)

t.test('a root that is told again after it was revoked is not taken, and that is said once', async t => {
  const { api, volume } = await published(t, good)
  const told: string[] = []
  const store = await openTrustStore(api.kube, TRUST_DOMAIN, volume, error => told.push(error.message))
  const { fingerprint256: revoked } = parseCertificate(second.root)
  const both = { trustDomain: TRUST_DOMAIN, roots: [first.root, second.root] }
  store.adopt([first.bundle], { retired: [], revoked: [revoked] })
  t.same(told, [])
  for (let n = 0; n < 3; n += 1) store.adopt([both])
  t.same(store.bundle.get(), first.bundle)
  t.match(told, [new RegExp(`root ${revoked} is told again, and was revoked`)])
  t.equal(told.length, 1)
})

t.test('who pushed a bundle hears that it could not be applied; the process does not end', async t => {
  const { open } = await published(t, good)
  const store = await open()
  store.bundle.subscribe(() => {
    throw new Error('cannot be used')
  })
  t.throws(() => store.adopt([second.bundle]), /cannot be used/)
  await t.rejects(store.refresh(never), /cannot be used/)
})

t.test('a kept bundle that is damaged or of another domain is not used', async t => {
  const { volume, open } = await published(t, good)
  for (const kept of [
    null,
    7,
    {},
    { trustDomain: TRUST_DOMAIN, roots: 'x' },
    { trustDomain: 'elsewhere', roots: [first.root] },
  ]) {
    await volume.write('trust.json', kept)
    t.equal((await open()).bundle.get(), undefined, JSON.stringify(kept))
  }
})
