// Ports with TLS, for sidecars that know them and for those of before.
import t from 'tap'
import { createOutbox } from '../../../../injector/control/outbox.ts'
import { createDirectory } from '../../../../injector/directory/directory.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { type FromInjector, KNOWN_FEATURES } from '../../../../shared/control/messages.ts'
import { createLogger } from '../../../../shared/log.ts'
import { node, pod, policies } from '../../../support/cluster-objects.ts'
import { federationOf } from '../../../support/federation.ts'
import { revocationsOf } from '../../../support/revocations.ts'

const TLS = `apiVersion: policy.postern.dev/v1
kind: PeerAuthentication
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, portLevelTls: {"8443": {mode: MUTUAL}, "8444": {mode: SERVER}}}`

t.test('a sidecar that does not know ports with TLS is told that they are strict', async t => {
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
  const web = pod('web', { ips: ['10.1.0.1'] })
  const labelled = { ...web, metadata: { ...web.metadata, labels: { ...web.metadata?.labels, app: 'web' } } }
  directory.feed({ kind: 'set', resource: 'pods', object: labelled })
  directory.feed({ kind: 'set', resource: 'configmaps', object: policies('web', TLS) })
  const modeFor = (features: readonly string[]) => {
    const sent: FromInjector[] = []
    createOutbox({
      world: directory.world,
      podUid: 'uid-web',
      features,
      trust: () => [],
      retired: () => [],
      revocations: revocationsOf(),
      federation: federationOf(),
      send: message => sent.push(message),
    }).refreshState()
    const [state] = sent
    return state?.kind === 'state' ? state.policy.mode : undefined
  }
  const strict = { inbound: 'permissive', ports: { 8443: 'strict', 8444: 'strict' } }
  t.strictSame(modeFor(['l4', 'http', 'protocols']), strict)
  t.strictSame(modeFor(KNOWN_FEATURES), { ...strict, tls: { 8443: 'mutual', 8444: 'server' } })
})
