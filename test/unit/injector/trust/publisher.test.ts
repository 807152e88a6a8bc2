import t from 'tap'
import { startEmbeddedCluster } from '../../../../embedded/cluster/server.ts'
import { publishTrust, wantedTrust } from '../../../../injector/trust/publisher.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { connectKube } from '../../../../shared/kube/rest.ts'
import { live } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../../../shared/names.ts'

const bundle = { trustDomain: 'cluster.local', roots: ['one\n', 'two\n'] }
const metadata = { name: TRUST_CONFIGMAP, namespace: SYSTEM_NAMESPACE }
const data = { 'trust-domain': 'cluster.local', 'roots.pem': 'one\ntwo\n' }
const configMap = (held?: Record<string, string>, version = '7') => ({
  apiVersion: 'v1' as const,
  kind: 'ConfigMap' as const,
  metadata: { ...metadata, resourceVersion: version },
  ...(held && { data: held }),
})

t.test('what is written', async t => {
  t.same(wantedTrust(bundle), { apiVersion: 'v1', kind: 'ConfigMap', metadata, data }, 'where there is none')
  t.equal(wantedTrust(bundle, configMap(data)), undefined, 'nothing where it is right')
  for (const held of [
    undefined,
    {},
    { ...data, 'roots.pem': 'one\n' },
    { ...data, 'trust-domain': 'other' },
    { ...data, more: 'x' },
  ]) {
    t.same(wantedTrust(bundle, configMap(held)), configMap(data), `instead of ${JSON.stringify(held)}`)
  }
})

t.test('the ConfigMap follows the roots, and is restored when somebody deletes it', async t => {
  await using cluster = await startEmbeddedCluster()
  using kube = connectKube({ server: cluster.url, token: cluster.access.adminToken })
  await kube.create('/api/v1/namespaces', { metadata: { name: SYSTEM_NAMESPACE } })
  const present = () => {
    try {
      return (cluster.store.get('configmaps', SYSTEM_NAMESPACE, TRUST_CONFIGMAP).data ?? {}) as Record<
        string,
        string
      >
    } catch {
      return {}
    }
  }
  const until = async (test: () => boolean) => {
    for (const end = performance.now() + 5_000; !test() && performance.now() < end; ) {
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  }
  const source = live(bundle)
  const stop = new AbortController()
  const clock = {
    ...systemClock,
    sleep: (ms: number, signal: AbortSignal) => systemClock.sleep(ms / 100, signal),
  }
  const log = createLogger('test', 'error')
  const running = publishTrust({ kube, bundle: source, clock, random: Math.random, log }, stop.signal)
  await until(() => present()['roots.pem'] !== undefined)
  t.same(present(), data)
  source.set({ ...bundle, roots: ['three\n'] })
  await until(() => present()['roots.pem'] === 'three\n')
  t.equal(present()['roots.pem'], 'three\n')
  cluster.store.delete('configmaps', SYSTEM_NAMESPACE, TRUST_CONFIGMAP)
  await until(() => present()['roots.pem'] !== undefined)
  t.equal(present()['roots.pem'], 'three\n')
  stop.abort()
  await running
})
