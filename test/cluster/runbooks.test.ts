// The runbooks of docs/operations.md that take less than a minute, typed as they stand there: what is broken is really broken,
// and what they promise is looked at. The others are in test/long/runbooks.test.ts.
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { parse } from 'yaml'
import { CA_SECRET, INJECTOR_NAME, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { requireCluster } from '../support/requirements.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { type Operator, operator as operatorOf } from './operator.ts'
import { apply, appPod, checked, eventually, waitForPod } from './pods.ts'
import { injectorPods, installPostern, leaderOf, waitForPostern } from './postern.ts'
import { costing, isRefused, openShop, podOfApp, reaches, rootOf, runbook, SHOP } from './runbook.ts'
import { serialsOf } from './sidecar.ts'

const skip = requireCluster()
const IN_SYSTEM = `--namespace=${SYSTEM_NAMESPACE}`
let cluster: Cluster
let operator: Operator

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  operator = await operatorOf(cluster)
  t.teardown(() => operator[Symbol.asyncDispose]())
  await openShop(t, cluster)
  await reaches(cluster, 'caller')
})

const issued = (pod: string): Promise<string[]> => serialsOf(cluster, SHOP, pod)

const renewed = (pod: string, before: number): Promise<void> =>
  eventually(async () => (await issued(pod)).length > before, `another certificate for ${pod}`)

const secretExists = async (): Promise<boolean> =>
  (await cluster.kubectl(['get', 'secret', CA_SECRET, IN_SYSTEM])).code === 0

const deleteSecret = () => checked(cluster, ['delete', 'secret', CA_SECRET, IN_SYSTEM])

async function scaleInjector(replicas: number): Promise<void> {
  await checked(cluster, ['scale', IN_SYSTEM, `deployment/${INJECTOR_NAME}`, `--replicas=${replicas}`])
  if (replicas === 0)
    await eventually(async () => (await injectorPods(cluster)).length === 0, 'no injector is left', 60_000)
}

/** Replicas start, and not one of them becomes ready. */
async function startsInVain(reason: RegExp): Promise<void> {
  await scaleInjector(2)
  await eventually(
    async () => {
      const log = ['logs', IN_SYSTEM, `--selector=app.kubernetes.io/name=${INJECTOR_NAME}`, '--tail=-1']
      return reason.test((await cluster.kubectl(log)).stdout)
    },
    `the injector says ${reason}`,
    60_000,
  )
}

t.test('runbooks', { skip }, async t => {
  await runbook(t, operator, 'back up the CA', async (t, { next }) => {
    await next()
    const file = join(operator.directory, 'postern-ca.yaml')
    const { data } = parse(await readFile(file, 'utf8'))
    const secret = await cluster.kube.get<{ data: object }>(
      `/api/v1/namespaces/${SYSTEM_NAMESPACE}/secrets/${CA_SECRET}`,
    )
    t.same(data, secret.data)
    t.equal((await stat(file)).mode & 0o077, 0, 'nobody else may read it')
  })

  await runbook(
    t,
    operator,
    'rotate the issuer',
    async (t, { next }) => {
      const before = /^issuer +([0-9a-f]{64})/m.exec(await operator.postern('ca', 'status'))?.[1]
      const had = (await issued('caller')).length
      const { failed } = await costing(cluster, 12, async () => {
        const said = await next()
        t.match(said, /^a new issuer signs$/m)
        t.notMatch(said, new RegExp(`issuer +${before}`))
        await renewed('caller', had)
      })
      t.equal(failed, 0)
    },
    { WITHIN: '5s' },
  )

  await runbook(
    t,
    operator,
    'renew all certificates',
    async (t, { next }) => {
      const had = (await issued('caller')).length
      const { failed } = await costing(cluster, 12, async () => {
        t.match(await next(), /^every sidecar renews within 5 s$/m)
        await renewed('caller', had)
      })
      t.equal(failed, 0)
    },
    { WITHIN: '5s' },
  )

  await runbook(t, operator, 'revoke a pod', async (t, { next }) => {
    const pod = await podOfApp(cluster, 'cart')
    await reaches(cluster, pod)
    t.match(await next(), new RegExp(`${SHOP}/${pod} .* a shell was seen in it`))
    await isRefused(cluster, pod)
    await next()
    await reaches(cluster, await podOfApp(cluster, 'cart'), 'its successor is not revoked')
    t.match(await next(), new RegExp(`^lifted: pod ${SHOP}/${pod}`, 'm'))
  })

  await runbook(t, operator, 'revoke an identity', async (t, { next }) => {
    const pod = await podOfApp(cluster, 'cart')
    t.match(await next(), /^revoked: identity spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart$/m)
    await isRefused(cluster, pod)
    t.match(await next(), /^lifted: identity/m)
    await reaches(cluster, await podOfApp(cluster, 'cart'))
  })

  await runbook(t, operator, 'revoke a certificate', async (t, { next }) => {
    const pod = await podOfApp(cluster, 'cart')
    const had = await issued(pod)
    const [serial = ''] = had.slice(-1)
    t.match(await next(), new RegExp(`^revoked: serial ${serial}`, 'm'))
    await renewed(pod, had.length)
    await reaches(cluster, pod, 'with its new certificate it is welcome')
  })

  await runbook(t, operator, 'a clock is wrong', async (t, { next }) => {
    const said = await next()
    for (const pod of ['caller', await podOfApp(cluster, 'web')])
      t.match(
        said,
        new RegExp(`^${pod} on \\S+: postern_clock_skew_seconds -?[0-2](\\.\\d+)?(e-\\d+)?$`, 'm'),
      )
  })

  await runbook(t, operator, 'upgrade', async (t, { next }) => {
    const before = await podOfApp(cluster, 'web')
    t.match(await next(), /deployment "web" successfully rolled out/)
    t.not(await podOfApp(cluster, 'web'), before)
    await waitForPostern(cluster)
    await reaches(cluster, 'caller')
  })

  await runbook(t, operator, 'the injector is gone', async (t, { next }) => {
    await checked(cluster, ['delete', 'deployment', INJECTOR_NAME, IN_SYSTEM])
    await eventually(async () => (await injectorPods(cluster)).length === 0, 'no injector is left', 60_000)
    const { failed } = await costing(cluster, 20, next)
    t.equal(failed, 0, 'nothing that runs stops')
    await waitForPostern(cluster)
  })

  await runbook(t, operator, 'the signer does not sign', async (t, { next }) => {
    const leader = await leaderOf(cluster)
    const role = ['clusterrole', 'postern-injector']
    const sign = ['patch', ...role, '--type=json', '-p']
    const { rules } = JSON.parse(await checked(cluster, ['get', ...role, '-o=json']))
    const at = rules.findIndex(({ resources = [] }: { resources?: string[] }) =>
      resources.includes('certificatesigningrequests/status'),
    )
    await checked(cluster, [...sign, JSON.stringify([{ op: 'remove', path: `/rules/${at}` }])])
    await apply(cluster, appPod(SHOP, 'late', undefined))
    await eventually(async () => {
      const requests = await cluster.kubectl(['get', 'csr', '--no-headers'])
      return /Approved$|Pending$/m.test(requests.stdout)
    }, 'a request that is not answered')
    await delay(2_000)
    t.match(await next(), /certificatesigningrequests/, 'the log names the right')
    await next()
    await waitForPod(cluster, SHOP, 'late')
    await waitForPostern(cluster)
    t.not(await leaderOf(cluster), leader)
  })

  await runbook(t, operator, "the CA's Secret is lost or damaged", async (t, { next }) => {
    const root = rootOf(await operator.postern('ca', 'status'))
    await scaleInjector(0)
    await deleteSecret()
    await startsInVain(/PSTN_CA_REFUSED/)
    const { failed } = await costing(cluster, 20, async () => {
      t.match(await next(), /not found[\s\S]*PSTN_CA_REFUSED/)
      t.equal(rootOf(await next()), root, 'the same root')
    })
    t.equal(failed, 0)
    await waitForPostern(cluster)
    t.equal(await secretExists(), true)
  })

  await runbook(t, operator, 'the CA is lost, and there is no backup', async (t, { next }) => {
    const root = rootOf(await operator.postern('ca', 'status'))
    await scaleInjector(0)
    await deleteSecret()
    await startsInVain(/PSTN_CA_REFUSED/)
    const status = await next()
    t.match(rootOf(status), /^[0-9a-f]{64}$/)
    t.not(rootOf(status), root, 'another mesh')
    await waitForPostern(cluster)
    await reaches(cluster, 'caller', 'its sidecars heal unattended')
  })

  await runbook(t, operator, "a root's key was stolen", async (t, { next }) => {
    const root = rootOf(await operator.postern('ca', 'status'))
    t.match(await next(), new RegExp(`Root ${root} signs every certificate in use.*Nothing was done`))
    const said = await next()
    t.match(said, new RegExp(`^${root} +revoked `, 'm'))
    t.match(rootOf(said), /^[0-9a-f]{64}$/)
    t.not(rootOf(said), root)
    await reaches(cluster, 'caller', 'under the new root')
  })
})
