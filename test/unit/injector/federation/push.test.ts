// What a sidecar is told of partners: whole, at each change, and nothing to one that does not know of them.
import t from 'tap'
import { createOutbox } from '../../../../injector/control/outbox.ts'
import { createDirectory } from '../../../../injector/directory/directory.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { decodeState } from '../../../../shared/control/decode.ts'
import { type FromInjector, KNOWN_FEATURES, type State } from '../../../../shared/control/messages.ts'
import { createLogger } from '../../../../shared/log.ts'
import { node, pod } from '../../../support/cluster-objects.ts'
import { federationOf } from '../../../support/federation.ts'
import { revocationsOf } from '../../../support/revocations.ts'

const west = { trustDomain: 'west.example', roots: ['PEM'], destinations: [] }
const clients = { name: 'batch', roots: ['PEM'], ports: [8443], principals: [] }

function start(features: readonly string[] = KNOWN_FEATURES) {
  const directory = createDirectory({
    settings: {
      trustDomain: 'cluster.local',
      systemNamespace: 'postern-system',
      meshMode: 'permissive',
      defaultAction: 'allow',
      prefixes: [],
    },
    clock: systemClock,
    log: createLogger('test', 'error'),
    signal: new AbortController().signal,
  })
  directory.feed({ kind: 'set', resource: 'nodes', object: node('node-1', { podCidrs: ['10.1.0.0/16'] }) })
  directory.feed({ kind: 'set', resource: 'pods', object: pod('web', { ips: ['10.1.0.1'] }) })
  const federation = federationOf([west])
  const sent: FromInjector[] = []
  const outbox = createOutbox({
    world: directory.world,
    podUid: 'uid-web',
    features,
    trust: () => [],
    retired: () => [],
    revocations: revocationsOf(),
    federation,
    send: message => sent.push(message),
  })
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
