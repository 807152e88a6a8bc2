// Every kind of name that a cluster's DNS gives leads through the tunnel to the pod behind it: a Service, one without an
// address of its own (headless), an alias (ExternalName), and the caller itself. Each is answered with 200, and the
// access log of the called pod says that the caller was identified.
import t from 'tap'
import { requireCluster } from '../support/requirements.ts'
import { http } from './applications.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { appPod, appService, eventually, INJECTED, populate, serviceAccount } from './pods.ts'
import { installPostern, policies, strict } from './postern.ts'
import { accessLog, addressOf } from './sidecar.ts'

const skip = requireCluster()
const NS = 'addresses'
const PORT = 8080
const idOf = (name: string) => `spiffe://cluster.local/ns/${NS}/sa/${name}`
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  const alias = { type: 'ExternalName', externalName: `server.${NS}.svc.cluster.local`, selector: null }
  await populate(t, cluster, NS, [
    ...['server', 'client'].map(name => serviceAccount(NS, name)),
    // So that whatever comes past the tunnel is refused, and a 200 proves it.
    policies(NS, 'strict', strict('server')),
    appPod(NS, 'server', 'http-server', { ...INJECTED, serviceAccount: 'server' }),
    appPod(NS, 'client', undefined, { ...INJECTED, serviceAccount: 'client' }),
    appPod(NS, 'outsider', undefined),
    appService(NS, 'server', PORT),
    {
      ...appService(NS, 'headless', PORT),
      spec: { clusterIP: 'None', selector: { app: 'server' }, ports: [{ port: PORT }] },
    },
    appService(NS, 'alias', PORT, alias),
  ])
})

/** Asks `host` from `caller`, and waits for the line of the called sidecar that names the caller. */
async function reaches(caller: 'client' | 'server', host: string, path: string) {
  const before = (await accessLog(cluster, NS, 'server')).length
  let answer = await http(cluster, NS, caller, `http://${host}:${PORT}/${path}`)
  // The name of a new Service takes a moment to be known to the cluster's DNS.
  for (let tries = 0; tries < 10 && answer.errors.ENOTFOUND; tries += 1)
    answer = await http(cluster, NS, caller, `http://${host}:${PORT}/${path}`)
  await eventually(async () => {
    const lines = (await accessLog(cluster, NS, 'server')).slice(before)
    return lines.some(
      ({ direction, via, source, outcome }) =>
        direction === 'inbound' && via === 'tunnel' && outcome === 'ok' && source?.identity === idOf(caller),
    )
  }, `an access-log line of ${caller} at ${host}`)
  return answer.statuses
}

t.test('past the tunnel the server is not reached by any of its names', { skip }, async t => {
  for (const host of ['server', 'headless', 'alias']) {
    const { statuses, errors } = await http(cluster, NS, 'outsider', `http://${host}:${PORT}/`)
    t.same({ statuses, errors }, { statuses: {}, errors: { ECONNRESET: 1 } }, host)
  }
})

for (const host of ['server', 'headless', 'alias']) {
  t.test(`a client reaches ${host} by its name`, { skip }, async t => {
    t.same(await reaches('client', host, host), { 200: 1 })
  })
}

t.test('a client reaches a pod by its address', { skip }, async t => {
  t.same(await reaches('client', await addressOf(cluster, NS, 'server'), 'pod'), { 200: 1 })
})

t.test('a pod reaches itself by its own Service, with its own identity', { skip }, async t => {
  // `server` alone is its own host name, which its hosts file knows.
  t.same(await reaches('server', `server.${NS}`, 'itself'), { 200: 1 })
})

t.test('a pod reaches itself by its own address, without a sidecar', { skip }, async t => {
  const own = await addressOf(cluster, NS, 'server')
  const before = (await accessLog(cluster, NS, 'server')).length
  for (const host of [own, 'headless']) {
    const { statuses } = await http(cluster, NS, 'server', `http://${host}:${PORT}/`)
    t.same(statuses, { 200: 1 }, host)
  }
  // A later connection shows that the log has had its time.
  t.same(await reaches('client', own, 'later'), { 200: 1 })
  const lines = (await accessLog(cluster, NS, 'server')).slice(before)
  t.equal(lines.filter(({ source }) => source?.address === own).length, 0)
})
