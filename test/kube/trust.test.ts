// The published trust bundle on a real API server: written with the injector's rights, read with a pod's, and restored.
import t from 'tap'
import { publishTrust, type TrustConfigMap } from '../../injector/trust/publisher.ts'
import { systemClock } from '../../shared/clock.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { live } from '../../shared/live.ts'
import { createLogger } from '../../shared/log.ts'
import { INJECTOR_NAME, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { applyManifests, createNamespace, outcome, until } from './support/installation.ts'

t.test('trust on a real API server', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer())
  await applyManifests(server)
  await createNamespace(server.kube, 'shop')
  const as = async (namespace: string, account: string) =>
    undo.use(connectKube(server.endpointFor(await server.tokenFor(namespace, account))))
  const bundle = live({ trustDomain: 'cluster.local', roots: ['first\n'] })
  const stop = new AbortController()
  // Rechecks each half minute come each half second.
  const clock = {
    ...systemClock,
    sleep: (ms: number, signal: AbortSignal) => systemClock.sleep(ms / 60, signal),
  }
  const publisher = {
    kube: await as(SYSTEM_NAMESPACE, INJECTOR_NAME),
    bundle,
    clock,
    random: Math.random,
    log: createLogger('test', 'error'),
  }
  const running = publishTrust(publisher, stop.signal)
  undo.defer(() => running)
  undo.defer(() => stop.abort())

  const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${TRUST_CONFIGMAP}`
  const pod = await as('shop', 'default')
  const roots = async () => {
    const found = await pod.get<TrustConfigMap>(path).catch(() => undefined)
    return found?.data?.['roots.pem']
  }
  const becomes = (wanted: string) => until(async () => (await roots()) === wanted)

  await becomes('first\n')
  t.pass('a pod of any namespace reads it')
  bundle.set({ trustDomain: 'cluster.local', roots: ['first\n', 'second\n'] })
  await becomes('first\nsecond\n')
  t.pass('a change of the roots is published')
  await server.kube.patch(path, 'application/merge-patch+json', { data: { 'roots.pem': 'forged' } })
  await becomes('first\nsecond\n')
  t.pass('an edit is taken back')
  await server.kube.delete(path)
  await becomes('first\nsecond\n')
  t.pass('a deletion is taken back')
  const forge = () => pod.patch(path, 'application/merge-patch+json', { data: { 'roots.pem': 'forged' } })
  t.match(await outcome(forge), /forbidden/, 'a pod may not write it')
})
