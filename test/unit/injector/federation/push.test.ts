// What a sidecar is told of partners: whole, at each change, and nothing to one that does not know of them.
import t from 'tap'
import { decodeState } from '../../../../shared/control/decode.ts'
import { type FromInjector, KNOWN_FEATURES, type State } from '../../../../shared/control/messages.ts'
import { directoryOf, outboxTo } from '../../../support/directory.ts'
import { federationOf } from '../../../support/federation.ts'

const west = { trustDomain: 'west.example', roots: ['PEM'], destinations: [] }
const clients = { name: 'batch', roots: ['PEM'], ports: [8443], principals: [] }

function start(features: readonly string[] = KNOWN_FEATURES) {
  const directory = directoryOf()
  const federation = federationOf([west])
  const sent: FromInjector[] = []
  const outbox = outboxTo(sent, directory, { features, federation })
  return {
    federation,
    namespace: directory.world.pods.get('uid-web')?.namespace ?? '',
    /** The last that was sent, and how many were. */
    refresh: (): { readonly state: State; readonly count: number } => {
      outbox.refreshState()
      return { state: decodeState(JSON.parse(JSON.stringify(sent.at(-1)))), count: sent.length }
    },
  }
}

t.test('partners are sent at first, at each change, and with every state', async t => {
  const { federation, refresh } = start()
  t.match(refresh(), { state: { partners: [west] }, count: 1 })
  t.equal(refresh().count, 1, 'nothing has changed')
  const rotated = { ...west, roots: ['PEM', 'next'] }
  federation.partners.set([rotated])
  t.match(refresh(), { state: { partners: [rotated] }, count: 2 })
  federation.clients.set([])
  t.equal(refresh().count, 2)
  federation.partners.set([])
  const { state, count } = refresh()
  t.equal(count, 3)
  t.same(state.partners, [], 'said, not left out: a sidecar keeps what is left out')
})

t.test('partner clients go to the pods that they bind', async t => {
  const { federation, refresh, namespace } = start()
  t.notOk('partnerClients' in refresh().state)
  federation.clients.set([{ kind: 'PartnerClients', namespace, clients }])
  t.match(refresh().state, { partners: [west], partnerClients: [clients] })
  federation.clients.set([{ kind: 'PartnerClients', namespace: 'elsewhere', clients }])
  t.notOk('partnerClients' in refresh().state)
})

t.test('a sidecar that does not know of them is told nothing', async t => {
  const { federation, refresh, namespace } = start(['l4'])
  federation.clients.set([{ kind: 'PartnerClients', namespace, clients }])
  const { state } = refresh()
  t.notOk('partners' in state || 'partnerClients' in state)
  federation.partners.set([])
  t.equal(refresh().count, 1, 'and nothing anew')
})
