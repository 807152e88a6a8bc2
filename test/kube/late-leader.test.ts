// Who comes to lead and has not heard what the leader before wrote: nothing that is out of the CA's Secret is signed with or
// published again. Two injectors in this process on a real API server, of which one hears nothing of the Secret.
import { setTimeout as delay } from 'node:timers/promises'
import type { V1ConfigMap } from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { startInjector } from '../../injector/app.ts'
import { parseSettings } from '../../injector/config.ts'
import { LEASE_TIMING } from '../../injector/leader.ts'
import { CA_REQUEST_PREFIX } from '../../shared/ca/request.ts'
import { CA_STATUS_KEY, type CaStatus, decodeCaStatus } from '../../shared/ca/status.ts'
import { systemClock } from '../../shared/clock.ts'
import { connectKube, type Kube } from '../../shared/kube/rest.ts'
import { until as becomes } from '../../shared/live.ts'
import { createLogger } from '../../shared/log.ts'
import { CA_CONFIGMAP, CA_SECRET, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { install, systemPath, until } from './support/installation.ts'

const MERGE = 'application/merge-patch+json'
const PORTS = { webhookPort: 0, controlPort: 0, metricsPort: 0, adminPort: 0, bundlePort: 0 }

/** Its watches of Secrets are silent, as over a connection that nobody ended. */
const deaf = (kube: Kube): Kube => ({
  ...kube,
  stream: (path, signal) => {
    if (!path.includes('/secrets?')) return kube.stream(path, signal)
    return new Promise((_, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
    )
  },
})

async function replica(t: Test, { endpoint }: ApiServer, name: string, hears = (kube: Kube) => kube) {
  const kube = connectKube(endpoint)
  const settings = parseSettings(JSON.stringify({ listenAddress: '127.0.0.1', ...PORTS }), 'test')
  const injector = await startInjector({
    config: { ...settings, sidecarImage: 'postern/proxy', replica: name, api: endpoint },
    kube: hears(kube),
    log: createLogger(name, 'error'),
    clock: systemClock,
    random: Math.random,
    version: 'test',
    timing: { lease: LEASE_TIMING, drain: { noticeMs: 0, spreadMs: 0 } },
  })
  t.teardown(async () => {
    await injector[Symbol.asyncDispose]()
    kube[Symbol.dispose]()
  })
  return injector
}

t.test(
  'a root that the leader before revoked is not published again',
  { skip: requireApiServer() },
  async t => {
    await using server = await startApiServer()
    const { kube } = server
    await install(server)
    const published = async () => {
      const { data = {} } = await kube.get<V1ConfigMap>(systemPath(`configmaps/${TRUST_CONFIGMAP}`))
      return splitPem(data['roots.pem'] ?? '').map(pem => parseCertificate(pem).fingerprint256)
    }
    const status = async (): Promise<CaStatus> => {
      const { data = {} } = await kube.get<V1ConfigMap>(systemPath(`configmaps/${CA_CONFIGMAP}`))
      return decodeCaStatus(JSON.parse(data[CA_STATUS_KEY] ?? ''), CA_CONFIGMAP)
    }
    const first = await replica(t, server, 'injector-0')
    const signal = AbortSignal.timeout(60_000)
    await becomes(first.leading, (leads): leads is true => leads, signal)
    await until(async () => (await published().catch(() => [])).length === 1)
    await until(async () => (await status().catch(() => undefined)) !== undefined)
    const second = await replica(t, server, 'injector-1', deaf)

    const [revoked = ''] = await published()
    const asked = { kind: 'revoke-root', fingerprint: revoked, by: 'admin', at: new Date().toISOString() }
    const annotations = { [`${CA_REQUEST_PREFIX}0123456789abcdef`]: JSON.stringify(asked) }
    await kube.patch(systemPath(`secrets/${CA_SECRET}`), MERGE, { metadata: { annotations } })
    await until(async () => !(await published()).includes(revoked))
    const after = await published()

    await first.drain()
    const seen = new Set<string>()
    const watching = new AbortController()
    const watched = (async () => {
      for (; !watching.signal.aborted; await delay(10)) seen.add((await published()).join())
    })()
    await becomes(second.leading, (leads): leads is true => leads, signal)
    // It writes at once what it finds otherwise.
    await delay(3_000)
    watching.abort()
    await watched
    t.same([...seen], [after.join()])
  },
)
