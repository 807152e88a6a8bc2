// How much work a rotation of the root is for one sidecar, counted from the writes of the CA's Secret: messages that it gets,
// TLS contexts that it makes, looks at its connections. Each is a few tenths of a millisecond, in which no traffic goes on.
import t from 'tap'
import { type CaMaterial, createIssuer, createRoot } from '../../injector/ca/authority.ts'
import {
  begin,
  dropRetired,
  fingerprintOf,
  replaceRoot,
  schedule,
  skip,
  switchRoots,
} from '../../injector/ca/rotation.ts'
import { ownTrust } from '../../injector/trust/own-trust.ts'
import { openTrustStore } from '../../proxy/credentials/trust.ts'
import { judgeConnectedPeers } from '../../proxy/identify/connected-peers.ts'
import type { FromInjector, State } from '../../shared/control/messages.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import { live } from '../../shared/live.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../shared/revocation.ts'
import { policies } from '../support/cluster-objects.ts'
import { directoryOf, outboxTo } from '../support/directory.ts'
import { memory, NO_API } from '../support/trust-sources.ts'

const TRUST_DOMAIN = 'cluster.local'
const now = Date.now()
const asking = { by: 'alice', now }
const [root, next] = [await createRoot(TRUST_DOMAIN, now), await createRoot(TRUST_DOMAIN, now)]
const [issuer, nextIssuer] = [
  await createIssuer(root, TRUST_DOMAIN, now),
  await createIssuer(next, TRUST_DOMAIN, now),
]
const idle = { root, issuer }

/** One replica and one sidecar, without the wire between them. */
async function mesh() {
  const stored = live<{ readonly material: CaMaterial }>({ material: idle })
  const directory = directoryOf()
  const sent: FromInjector[] = []
  const trust = ownTrust(TRUST_DOMAIN, stored, live([]))
  const outbox = outboxTo(sent, directory, { trust: trust.get })
  trust.subscribe(() => void outbox.refreshState())
  outbox.refreshState()

  const store = await openTrustStore(NO_API, TRUST_DOMAIN, memory())
  const work = { messages: 0, contexts: 0, looks: 0 }
  const counted = { closePeers: () => void work.looks++, sweepPeers: () => [] }
  const told = { retired: [] as readonly string[], revoked: [] as readonly string[] }
  const receive = () => {
    for (const { trust: bundles, retired = [], revokedRoots: revoked = [] } of sent.splice(0) as State[]) {
      Object.assign(told, { retired, revoked })
      work.messages += 1
      store.adopt(bundles, { retired, revoked })
    }
  }
  receive()
  store.bundle.subscribe(() => work.contexts++)
  judgeConnectedPeers(
    { inbound: counted, outbound: { closePeers: () => {}, sweepPeers: () => [] } },
    {
      trusted: { trustDomain: TRUST_DOMAIN, trust: store.bundle, partners: live(NO_PARTNERS) },
      tls: live(undefined),
      vouching: store.vouching,
      revoked: live(revocationCheck(NOBODY_REVOKED)),
      onRevoked: () => {},
    },
  )
  const costOf = (act: () => void) => {
    Object.assign(work, { messages: 0, contexts: 0, looks: 0 })
    act()
    receive()
    return { ...work }
  }
  return {
    told,
    write: (material: CaMaterial) => costOf(() => stored.set({ material })),
    edit: () =>
      costOf(() => {
        const text =
          'apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {}'
        directory.feed({ kind: 'set', resource: 'configmaps', object: policies('some', text) })
        outbox.refreshState()
      }),
  }
}

const NOTHING = { messages: 0, contexts: 0, looks: 0 }

t.test('a rotation from its beginning to its end', async t => {
  const { write, edit } = await mesh()
  const publishing = begin(idle, next, [], asking)
  const time = new Date(now).toISOString()
  const skipped = skip(publishing, [{ pod: 'shop/cart', uid: '1', by: 'alice', at: time }])
  const switched = switchRoots(skipped, nextIssuer, now)
  const scheduled = schedule(switched, { drop: now, seen: now })
  t.same(write(publishing), { messages: 1, contexts: 1, looks: 1 }, 'a root is published')
  t.same(write(skipped), NOTHING, 'a pod is skipped')
  t.same(write(switched), NOTHING, 'the new root signs')
  t.same(write(scheduled), NOTHING, 'its end is known')
  t.same(write(dropRetired(scheduled, now)), { messages: 1, contexts: 1, looks: 0 }, 'the old one is dropped')
  t.same(edit(), { messages: 1, contexts: 0, looks: 0 }, 'and any other change looks at no connection')
})

t.test('a root that is revoked is one message, and one look at each connection', async t => {
  const { write, told } = await mesh()
  t.same(write(replaceRoot(idle, { root: next, issuer: nextIssuer }, asking)), {
    messages: 1,
    contexts: 1,
    looks: 1,
  })
  t.same(told, { retired: [], revoked: [fingerprintOf(root.certificate)] }, 'and says what became of it')
})
