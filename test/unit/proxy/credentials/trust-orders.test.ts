// Every order in which what became of a root can reach a sidecar: by the control stream, of replicas that may be behind each
// other; by either published object, each of which may be behind; and over a restart of the sidecar's container. A history
// is what the CA's Secret held, step by step; whoever is behind tells an older step.
import t, { type Test } from 'tap'
import { openTrustStore, type TrustStore } from '../../../../proxy/credentials/trust.ts'
import type { FormerRoots } from '../../../../shared/former-roots.ts'
import type { OwnTrust } from '../../../../shared/trust-bundle.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { memory, publishedBy } from '../../../support/trust-sources.ts'

const TRUST_DOMAIN = 'cluster.local'
const [old, next] = await Promise.all(
  ['CN=old', 'CN=next'].map(async name => (await testAuthority(TRUST_DOMAIN, name)).root),
)
if (!old || !next) throw new Error('two roots')
const fingerprint = parseCertificate(old).fingerprint256
const never = new AbortController().signal
const HELD = new AbortController().signal

const step = (roots: readonly string[], former: Partial<FormerRoots> = {}): OwnTrust => ({
  trustDomain: TRUST_DOMAIN,
  roots,
  former: { retired: [], revoked: [], ...former },
})
const both = step([old, next])
const retired = step([next], { retired: [fingerprint] })
const revoked = step([next], { revoked: [fingerprint] })

type Event =
  | { readonly kind: 'pushed'; readonly step: number }
  | { readonly kind: 'read'; readonly clusterTrustBundle: number; readonly configMap: number }
  | { readonly kind: 'restart' }

function eventsOf(steps: number): Event[] {
  const all = Array.from({ length: steps }, (_, step) => step)
  return [
    ...all.map(step => ({ kind: 'pushed', step }) as const),
    ...all.flatMap(clusterTrustBundle =>
      all.map(configMap => ({ kind: 'read', clusterTrustBundle, configMap }) as const),
    ),
    { kind: 'restart' },
  ]
}

function* sequences(events: readonly Event[], length: number): Generator<readonly Event[]> {
  if (length === 0) yield []
  else for (const rest of sequences(events, length - 1)) for (const event of events) yield [...rest, event]
}

/** What the sidecar makes of it after each event: begun with the first step, as it was pushed. */
async function* replay(history: readonly OwnTrust[], events: readonly Event[], stream: AbortSignal) {
  const files = new Map()
  const answers: { clusterTrustBundle?: OwnTrust; configMap?: OwnTrust } = {}
  const open = () => openTrustStore(publishedBy(answers), TRUST_DOMAIN, memory(files))
  const at = (index: number) => history[index] ?? both
  let store = await open()
  const push = ({ former, ...bundle }: OwnTrust) => store.adopt([bundle], former, stream)
  push(both)
  for (const event of events) {
    if (event.kind === 'pushed') push(at(event.step))
    if (event.kind === 'restart') store = await open()
    if (event.kind === 'read') {
      answers.clusterTrustBundle = at(event.clusterTrustBundle)
      answers.configMap = at(event.configMap)
      await store.refresh(never)
    }
    yield { event, store }
  }
}

const trusts = ({ bundle }: TrustStore) => bundle.get()?.roots.includes(old) === true
const keeps = ({ vouching }: TrustStore) => vouching.get().includes(old)

/** Calls `check` after each event of each sequence, with a stream that is held and without; tells the first that goes wrong. */
async function all(
  t: Test,
  history: readonly OwnTrust[],
  events: readonly Event[],
  judge: () => (event: Event, store: TrustStore) => string | undefined,
) {
  let count = 0
  for (const [stream, length] of [
    [HELD, 2],
    [AbortSignal.abort(), 3],
  ] as const)
    for (const sequence of sequences(events, length)) {
      const check = judge()
      for await (const { event, store } of replay(history, sequence, stream)) {
        const wrong = check(event, store)
        if (!wrong) continue
        t.fail(`${wrong}: ${JSON.stringify(sequence)}`)
        return
      }
      count += 1
    }
  t.comment(`${count} sequences`)
  t.ok(count === events.length ** 2 + events.length ** 3, 'control: they were all played')
}

t.test('a root that is retired costs no connection, whoever is behind', async t => {
  const events = eventsOf(2).filter(({ kind }) => kind !== 'restart')
  await all(
    t,
    [both, retired],
    events,
    () => (_, store) => (keeps(store) ? undefined : 'connections are cut'),
  )
})

t.test(
  'a root that is revoked is gone once anybody has said so, and nobody who is behind brings it back',
  async t => {
    await all(t, [both, revoked], eventsOf(2), () => {
      let isGone = false
      return (event, store) => {
        if (event.kind === 'pushed' && event.step === 1 && trusts(store))
          return 'it was said, and changed nothing'
        const still = trusts(store) || keeps(store)
        if (isGone && still) return 'it came back'
        isGone ||= !still
        return undefined
      }
    })
  },
)

t.test('a root that was retired and is revoked after all: the same', async t => {
  // Objects that differ were two steps' affair above.
  const alike = eventsOf(3).filter(
    event => event.kind !== 'read' || event.clusterTrustBundle === event.configMap,
  )
  await all(t, [both, retired, revoked], alike, () => {
    let isGone = false
    return (event, store) => {
      if (event.kind === 'restart') return isGone && trusts(store) ? 'it came back' : undefined
      isGone ||= event.kind === 'pushed' && event.step === 2
      if (isGone && (trusts(store) || keeps(store))) return 'it was said, or came back'
      return undefined
    }
  })
})

t.test('what nobody says a word of takes its connections with it, and may come back', async t => {
  const { former: _, ...silent } = step([next])
  const store = await openTrustStore(publishedBy({ configMap: silent }), TRUST_DOMAIN, memory())
  const { former: __, ...bundle } = both
  store.adopt([bundle])
  await store.refresh(never)
  t.notOk(trusts(store) || keeps(store))
  store.adopt([bundle])
  t.ok(trusts(store), 'an edit by hand was put right')
})

t.test('where nothing but revoked roots is left, the last good bundle stays', async t => {
  const answers = { configMap: step([old]) }
  const store = await openTrustStore(publishedBy(answers), TRUST_DOMAIN, memory())
  const { former, ...bundle } = revoked
  store.adopt([bundle], former)
  await t.rejects(store.refresh(never), { code: 'PSTN_TRUST_INVALID', message: /revoked/ })
  t.same(store.bundle.get()?.roots, [next])
})

t.test('at first contact an object that is behind is told by the other', async t => {
  const answers = { clusterTrustBundle: step([old]), configMap: revoked }
  const store = await openTrustStore(publishedBy(answers), TRUST_DOMAIN, memory())
  await store.refresh(never)
  t.same(store.bundle.get()?.roots, [next])
})
