// The runbooks of docs/operations.md that take minutes, since certificates have to expire for them, or the whole installation goes;
// as test/cluster/runbooks.test.ts does the others.
import { cp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { stringify } from 'yaml'
import { INJECTOR_NAME, PROXY_CONTAINER, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { builtBinaries } from '../cluster/binaries.ts'
import { type Cluster, useCluster } from '../cluster/cluster.ts'
import { type Operator, operator as operatorOf } from '../cluster/operator.ts'
import { checked, eventually, logs } from '../cluster/pods.ts'
import { installPostern, uninstallPostern, waitForPostern, withoutInjector } from '../cluster/postern.ts'
import {
  costing,
  follow,
  isRefused,
  openShop,
  podOfApp,
  reaches,
  rootOf,
  runbook,
  SHOP,
} from '../cluster/runbook.ts'
import { startInside, stopInside } from '../cluster/sandbox.ts'
import { kill, sidecarLog, sidecarState } from '../cluster/sidecar.ts'
import { etcdArguments } from '../support/control-plane.ts'
import { requireCluster } from '../support/requirements.ts'

const skip = requireCluster()
/** Shorter, a pod would use its eight names of requests up before they are freed. */
const LEAF_SECONDS = 60
/** Renewals, names that etcd brought back and leaders that have just begun may use them up all the same: until one is free. */
const NAMES_MS = 150_000
const SHORT = { maxLeafLifetimeSeconds: LEAF_SECONDS, maxServingLifetimeSeconds: LEAF_SECONDS }
/** A minute in which the next root is published, twice the life of a leaf, and some. */
const ROTATION_SECONDS = 60 + 2 * LEAF_SECONDS + 20
/** A watch that was resumed at a version of the future lasts as long. */
const ETCD_MS = 6 * 60_000
const ETCD_URLS = ['http://127.0.0.1:2379', 'http://127.0.0.1:2380'] as const
const CLUSTER_WIDE = [
  'clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations',
  'validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces',
].join(',')
let cluster: Cluster
let operator: Operator

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster, SHORT)
  operator = await operatorOf(cluster)
  t.teardown(() => operator[Symbol.asyncDispose]())
  // What the operator has written into the folder that Postern was installed from.
  await writeFile(join(operator.directory, 'deploy/config.yaml'), stringify(SHORT))
  await openShop(t, cluster)
  await reaches(cluster, 'caller')
})

const phaseIs = (phase: string): Promise<void> =>
  eventually(
    async () => new RegExp(`^phase +${phase}`).test(await operator.postern('ca', 'status')),
    `the rotation is ${phase}`,
    120_000,
  )

const injectorLog = (): Promise<string> =>
  checked(cluster, [
    'logs',
    `--namespace=${SYSTEM_NAMESPACE}`,
    `--selector=app.kubernetes.io/name=${INJECTOR_NAME}`,
    '--tail=-1',
    '--since=5m',
  ])

/** Whether its present certificate is good for hours. */
async function isLongLived(pod: string): Promise<boolean> {
  const lines = (await logs(cluster, SHOP, pod, PROXY_CONTAINER)).split('\n')
  const last = lines.findLast(line => line.includes('"certificate issued"')) ?? '{}'
  return Date.parse(JSON.parse(last).notAfter) > Date.now() + 3_600_000
}

/** Stops the API server and etcd, does it to etcd's files, and starts both. */
async function withEtcdStopped(work: (data: string) => Promise<void>): Promise<void> {
  const { etcd } = await builtBinaries('etcd')
  await cluster.stopApiServer()
  await stopInside(cluster.sandbox, 'etcd')
  await work(join(cluster.directory, 'etcd'))
  startInside(cluster.sandbox, 'etcd', etcd, etcdArguments(cluster.directory, ...ETCD_URLS))
  await cluster.startApiServer()
}

t.test('runbooks', { skip }, async t => {
  await runbook(t, operator, 'rotate the root', async (t, { next }) => {
    const root = rootOf(await operator.postern('ca', 'status'))
    const { failed, answered } = await costing(cluster, ROTATION_SECONDS, async () => {
      const said = await next()
      t.match(said, /^a new root is published$[\s\S]*^publishing: [\s\S]*^switched: /m)
      t.match(said, new RegExp(`^${root} +retired `, 'm'))
    })
    t.comment(`${answered} requests meanwhile`)
    t.equal(failed, 0)
  })
  await follow(operator, 'back up the CA')

  await runbook(t, operator, 'a pod holds a rotation of the root up', async (t, { next }) => {
    const pod = await podOfApp(cluster, 'cart')
    const signal = async (name: 'STOP' | 'CONT') =>
      kill(cluster, await sidecarState(cluster, SHOP, pod), name)
    await signal('STOP')
    await operator.postern('ca', 'rotate')
    await eventually(
      async () => (await operator.postern('ca', 'status')).includes(`${SHOP}/${pod}  not connected`),
      'it waits for the pod that is silent',
      60_000,
    )
    t.match(await next(), new RegExp(`^SKIPPED[^\\n]*\\n${SHOP}/${pod} `, 'm'))
    await phaseIs('switched')
    await signal('CONT')
    await reaches(cluster, pod, 'what was skipped comes back by itself')
    await phaseIs('idle')
  })
  await follow(operator, 'back up the CA')

  await runbook(t, operator, 'certificates have expired', async (t, { next }) => {
    const pod = await podOfApp(cluster, 'cart')
    // Without an injector an address that was never used cannot be learnt.
    await reaches(cluster, pod)
    const away = await withoutInjector(cluster)
    await isRefused(cluster, pod)
    t.match(await next(), /^[1-9]\d*$/m, 'the log counts them')
    await away[Symbol.asyncDispose]()
    await next()
    await reaches(cluster, pod, 'it heals unattended')
    await reaches(cluster, 'caller')
  })

  await runbook(t, operator, 'etcd was restored from an old snapshot', async (t, { next }) => {
    const snapshot = join(operator.directory, 'etcd-snapshot')
    await withEtcdStopped(data => cp(data, snapshot, { recursive: true }))
    await waitForPostern(cluster)
    const pod = await podOfApp(cluster, 'cart')
    await operator.postern('certs', 'revoke', `${SHOP}/${pod}`)
    const former = rootOf(await operator.postern('ca', 'status'))
    await operator.postern('ca', 'revoke-root', former, '--yes')
    await reaches(cluster, 'caller')
    await follow(operator, 'back up the CA')
    const root = rootOf(await operator.postern('ca', 'status'))
    t.not(root, former)
    await withEtcdStopped(async data => {
      await rm(data, { recursive: true })
      await cp(snapshot, data, { recursive: true })
    })
    const restored = Date.now()
    await eventually(
      async () => /PSTN_CA_REFUSED/.test(await injectorLog()),
      'replicas that run refuse the older root',
      ETCD_MS,
    )
    t.match(await next(), /PSTN_CA_REFUSED/)
    await waitForPostern(cluster)
    await eventually(
      async () => rootOf(await operator.postern('ca', 'status')) === root,
      'the present root',
      ETCD_MS,
    )
    t.match(await next(), /^nobody is revoked$/m, 'the list is of then')
    await reaches(cluster, 'caller')
    const since = (await sidecarLog(cluster, SHOP, 'caller')).filter(
      ({ time }) => Date.parse(time) > restored,
    )
    t.ok(
      since.some(({ msg }) => msg === 'certificate issued'),
      'its sidecar renewed',
    )
    t.notOk(
      since.some(({ code }) => code === 'PSTN_CSR_ANSWER_INVALID'),
      'and never believed the roots of then',
    )
  })

  await runbook(t, operator, 'Postern was deleted while pods have sidecars', async (t, { next }) => {
    await installPostern(cluster)
    await writeFile(join(operator.directory, 'deploy/config.yaml'), '{}\n')
    // For a day, as everybody has them: a minute would be over before all is back.
    await operator.postern('certs', 'renew', '--all', '--within', '1s')
    for (const pod of ['caller', await podOfApp(cluster, 'web'), await podOfApp(cluster, 'cart')])
      await eventually(() => isLongLived(pod), `a certificate of a day for ${pod}`, NAMES_MS)
    await follow(operator, 'back up the CA')
    const root = rootOf(await operator.postern('ca', 'status'))
    const { failed } = await costing(cluster, 60, async () => {
      await uninstallPostern(cluster)
      await next()
    })
    t.equal(failed, 0)
    await waitForPostern(cluster)
    t.equal(rootOf(await operator.postern('ca', 'status')), root)
    await reaches(cluster, 'caller')
  })

  await runbook(t, operator, 'uninstall', async (t, { next }) => {
    await checked(cluster, ['delete', 'pod', 'caller', `--namespace=${SHOP}`])
    t.match(await next(), /^no sidecar is left$/m)
    await reaches(cluster, await podOfApp(cluster, 'cart'))
    await next()
    const left = await checked(cluster, ['get', CLUSTER_WIDE, '-o=name'])
    t.same(
      left.split('\n').filter(name => name.includes('postern')),
      [],
      'nothing of it is left in the cluster',
    )
    await reaches(cluster, await podOfApp(cluster, 'cart'))
  })
})
