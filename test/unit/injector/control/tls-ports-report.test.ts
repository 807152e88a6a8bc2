// An older sidecar's closed ports, told on its pod: once while its streams come and go, again before Events are forgotten, and
// anew when the ports are others.
import t from 'tap'
import type { Connected } from '../../../../injector/control/stream.ts'
import { tlsPortsReporter } from '../../../../injector/control/tls-ports-report.ts'
import type { KubeEvent } from '../../../../injector/events/event.ts'
import { type FromInjector, KNOWN_FEATURES } from '../../../../shared/control/messages.ts'
import type { Kube } from '../../../../shared/kube/rest.ts'
import { createLogger } from '../../../../shared/log.ts'
import { pod, policies } from '../../../support/cluster-objects.ts'
import { directoryOf, outboxTo } from '../../../support/directory.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const modes = (spec: string) => `apiVersion: policy.postern.dev/v1
kind: PeerAuthentication
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, ${spec}}`

t.test('the ports are told when they change, and of nobody who knows them', async t => {
  const directory = directoryOf({ web: pod('web', { ips: ['10.1.0.1'], labels: { app: 'web' } }) })
  const told: [string, readonly number[]][] = []
  const sent: FromInjector[] = []
  const outboxes = Object.entries({ older: ['l4'], newer: KNOWN_FEATURES }).map(([name, features]) =>
    outboxTo(sent, directory, { features, onTlsPortsClosed: ports => told.push([name, ports]) }),
  )
  const say = (spec: string) => {
    directory.feed({ kind: 'set', resource: 'configmaps', object: policies('web', modes(spec)) })
    for (const outbox of outboxes) outbox.refreshState()
  }
  say('portLevelMtls: {"8443": {mode: STRICT}}')
  t.same(told, [])
  say('portLevelTls: {"8443": {mode: MUTUAL}}')
  say('portLevelTls: {"8443": {mode: MUTUAL}}, mtls: {mode: STRICT}')
  t.same(told, [['older', [8443]]], 'where nothing else changes for the sidecar, too')
  say('mtls: {mode: STRICT}')
  t.same(told.slice(1), [['older', []]])
})

t.test('an Event is written once in fifty minutes, whatever its streams do', async t => {
  const written: KubeEvent[] = []
  const create = async (_path: string, event: KubeEvent) => written.push(event)
  const clock = steppingClock()
  const report = tlsPortsReporter({
    kube: { create } as unknown as Kube,
    clock,
    log: createLogger('test', 'error'),
    signal: new AbortController().signal,
  })
  const sidecar = (closedTlsPorts: readonly number[]): Connected => ({
    podUid: 'uid-web',
    pod: 'web',
    namespace: 'shop',
    version: '0.1.0',
    presented: { serial: '0a', notAfter: new Date() },
    closedTlsPorts,
    close: () => {},
  })
  for (const ports of [[8443], [8443], [], [8443], [8443, 8444]]) report(sidecar(ports))
  t.match(written, [
    {
      involvedObject: { kind: 'Pod', uid: 'uid-web' },
      reason: 'SidecarOutdated',
      message: /\(0\.1\.0\).* 8443 /,
    },
    { message: /8443, 8444/ },
  ])
  t.equal(written.length, 2)
  clock.advance(51 * 60_000)
  report(sidecar([8443]))
  t.equal(written.length, 3)
})
