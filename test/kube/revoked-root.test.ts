// A root that is revoked is out of everything that is published when the command says so, and stays out: a replica that
// starts on a Secret from before takes it up only where the record of its revocation is gone, too. On a real API server.
import type { V1ConfigMap } from '@kubernetes/client-node'
import t from 'tap'
import { caRevokeRoot } from '../../cli/ca/revoke-root.ts'
import { caStatus } from '../../cli/ca/status.ts'
import type { SecretObject } from '../../injector/ca/material.ts'
import type { CaStatus } from '../../shared/ca/status.ts'
import { type ClusterTrustBundle, clusterTrustBundlePath } from '../../shared/cluster-trust-bundle.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import {
  CA_CONFIGMAP,
  CA_SECRET,
  LEADER_LEASE,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
} from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { CLUSTER_TRUST_BUNDLE_FLAGS, startApiServer } from '../support/api-server.ts'
import { typed as typedAt } from '../support/command-line.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { type InjectorProcess, startInjectorProcess } from './support/injector-process.ts'
import { install, systemPath, until } from './support/installation.ts'

const SECRET = systemPath(`secrets/${CA_SECRET}`)
const TRUST = systemPath(`configmaps/${TRUST_CONFIGMAP}`)
const MERGE = 'application/merge-patch+json'

t.test('a revoked root', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer({ flags: CLUSTER_TRUST_BUNDLE_FLAGS }))
  const { kube } = server
  await install(server)
  const directory = scratchDirectory(t)
  let started = 0
  /** Another replica; the ones before are gone. */
  const start = async () => {
    started += 1
    const replica = await startInjectorProcess(server, { name: `injector-${started}`, directory })
    undo.defer(() => replica.running.stop('SIGKILL'))
    return replica
  }
  /** Without a word; the Lease is given to whoever comes next. */
  const kill = async (replica: InjectorProcess) => {
    await replica.running.stop('SIGKILL')
    await kube.delete(`/apis/coordination.k8s.io/v1/namespaces/${SYSTEM_NAMESPACE}/leases/${LEADER_LEASE}`)
  }
  const postern = async (...words: string[]) => {
    return typedAt(words, {
      commands: [caStatus, caRevokeRoot],
      connect: async () => connectKube(server.endpoint),
    })
  }
  const status = async (): Promise<CaStatus> => JSON.parse((await postern('ca', 'status', '--json')).out)
  const printsOf = (pem = '') => splitPem(pem).map(one => parseCertificate(one).fingerprint256)
  const published = async () => {
    const { data = {} } = await kube.get<V1ConfigMap>(TRUST)
    const { spec } = await kube.get<ClusterTrustBundle>(clusterTrustBundlePath('v1beta1'))
    return { configMap: printsOf(data['roots.pem']), bundle: printsOf(spec.trustBundle) }
  }
  const refuses = (replica: InjectorProcess) =>
    until(async () => /PSTN_CA_REFUSED.*which is revoked/.test(await replica.log()))

  let replica = await start()
  await replica.ready()
  await until(async () => (await published().catch(() => undefined)) !== undefined)
  await until(async () => (await status().catch(() => undefined)) !== undefined)
  const first = (await status()).root.fingerprint
  const backup = await kube.get<SecretObject>(SECRET)
  const etcd = await server.backUp()

  await t.test('is out of the ConfigMap and of the ClusterTrustBundle when the command ends', async t => {
    t.same(await published(), { configMap: [first], bundle: [first] }, 'it was there before')
    const { code, err } = await postern('ca', 'revoke-root', first, '--yes')
    t.equal(code, 0, err)
    const { root, lingering } = await status()
    t.same(await published(), { configMap: [root.fingerprint], bundle: [root.fingerprint] })
    t.same(lingering, [])
  })

  await t.test('that something still publishes is named, with the object and an exit code', async t => {
    const { root } = await status()
    await kube.patch(TRUST, MERGE, { immutable: true })
    const { code, err, out } = await postern('ca', 'revoke-root', root.fingerprint, '--yes')
    t.equal(code, 1)
    t.match(err, /NOT done: ConfigMap postern-trust holds the root still/)
    t.notMatch(err, /worth nothing/)
    t.match(
      out,
      new RegExp(`^LINGERING +${root.fingerprint}, trusted no more, but: ConfigMap postern-trust$`, 'm'),
    )
    t.match((await published()).configMap, [root.fingerprint], 'as it is')
    await kube.delete(TRUST)
    const gone = async () => !(await published()).configMap.includes(root.fingerprint)
    await until(() => gone().catch(() => false))
    await until(async () => (await status()).lingering?.length === 0)
  })

  await t.test(
    'does not come back with a Secret from before, though all replicas were restarted',
    async t => {
      const present = await kube.get<SecretObject>(SECRET)
      await kill(replica)
      const { resourceVersion: _, ...metadata } = backup.metadata
      await kube.replace(SECRET, { ...backup, metadata })
      replica = await start()
      await refuses(replica)
      t.notOk((await published()).configMap.includes(first))
      const { resourceVersion: __, ...right } = present.metadata
      await kube.replace(SECRET, { ...present, metadata: right })
      await replica.ready()
      t.equal(
        (await status()).root.fingerprint,
        parseCertificate(decoded(present, 'root.crt')).fingerprint256,
      )
    },
  )

  await t.test(
    'comes back with a backup of all of etcd once no replica remembers: to be revoked again',
    async t => {
      await server.restore(etcd)
      t.ok((await published()).configMap.includes(first), 'the publication of that day')
      await replica.running.stop('SIGKILL')
      replica = await start()
      await replica.ready()
      await until(
        async () =>
          (await kube.get<V1ConfigMap>(systemPath(`configmaps/${CA_CONFIGMAP}`))).data !== undefined,
      )
      t.equal((await status()).root.fingerprint, first, 'as docs/operations.md says')
      const { code, err } = await postern('ca', 'revoke-root', first, '--yes')
      t.equal(code, 0, err)
      t.notOk((await published()).configMap.includes(first))
    },
  )
})

const decoded = ({ data = {} }: SecretObject, key: string): string =>
  Buffer.from(data[key] ?? '', 'base64').toString('utf8')
