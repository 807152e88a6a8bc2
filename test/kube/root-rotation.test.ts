// A rotation of the root as an operator and the mesh see it, with real sidecars, two replicas, an older replica in the way,
// and a leader that is killed in each phase; then a root that is revoked, and a Secret that somebody edited.

import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { V1ConfigMap } from '@kubernetes/client-node'
import t from 'tap'
import { caRevokeRoot } from '../../cli/ca/revoke-root.ts'
import { caRotate } from '../../cli/ca/rotate.ts'
import { caStatus } from '../../cli/ca/status.ts'
import { call } from '../../embedded/calls.ts'
import { createIssuer, createRoot } from '../../injector/ca/authority.ts'
import { type SecretObject, toSecret } from '../../injector/ca/material.ts'
import type { CaStatus } from '../../shared/ca/status.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { CA_SECRET, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { typed as typedAt } from '../support/command-line.ts'
import { releasedSources } from '../support/released.ts'
import { requireApiServer, requireCommands } from '../support/requirements.ts'
import { systemPath, until } from './support/installation.ts'
import { type LoopbackMesh, startLoopbackMesh } from './support/loopback-mesh.ts'

/** Renewed after 20 to 30 seconds: the other half lasts until another leader has come. */
const LEAF_SECONDS = 60
/** The longest that a phase takes: an old root outlives two lives. */
const PHASE_MS = 3 * LEAF_SECONDS * 1000
const SHORT = { maxLeafLifetimeSeconds: LEAF_SECONDS, maxServingLifetimeSeconds: LEAF_SECONDS }
const CLIENT = '127.77.0.2'
const SERVER = '127.77.0.3'
const APP = { address: SERVER, port: 8080 }
const URL_OF_APP = `http://${CLIENT}:9080/`

/** Types a command as the administrator. */
async function postern({ server }: LoopbackMesh, ...words: string[]) {
  return typedAt(words, {
    commands: [caStatus, caRotate, caRevokeRoot],
    connect: async () => connectKube(server.endpoint),
  })
}

const statusOf = async (mesh: LoopbackMesh): Promise<CaStatus> =>
  JSON.parse((await postern(mesh, 'ca', 'status', '--json')).out)

/** Requests until it is stopped, one after the other on new connections; what they were answered with. */
function traffic() {
  const answers = new Map<string, number>()
  let going = true
  const sending = (async () => {
    while (going) {
      const answer = await call(URL_OF_APP)
      const what = 'error' in answer ? answer.error : String(answer.status)
      answers.set(what, (answers.get(what) ?? 0) + 1)
      await delay(50)
    }
  })()
  return {
    stop: async () => {
      going = false
      await sending
      return Object.fromEntries(answers)
    },
  }
}

const lacking = requireApiServer() || requireCommands('git', 'tar')

t.test('a rotation of the root', { skip: lacking }, async t => {
  const old = join(releasedSources(t, '0.1.0'), 'injector/main.ts')
  await using stack = new AsyncDisposableStack()
  const mesh = await startLoopbackMesh(stack, SHORT)
  const { kube } = mesh
  await mesh.startReplica('injector-0')
  const server = await mesh.startPod({ name: 'server', address: SERVER, serves: APP.port })
  const client = await mesh.startPod({
    name: 'client',
    address: CLIENT,
    outbound: [{ port: 9080, destination: APP }],
  })
  await mesh.startReplica('injector-1')
  const trustData = async () =>
    (await kube.get<V1ConfigMap>(systemPath(`configmaps/${TRUST_CONFIGMAP}`))).data ?? {}
  const published = async () => {
    const data = await trustData()
    return splitPem(data['roots.pem'] ?? '').map(pem => parseCertificate(pem).fingerprint256)
  }
  const phaseIs = async (phase: CaStatus['phase']) => {
    const deadline = performance.now() + PHASE_MS
    while ((await statusOf(mesh)).phase !== phase) {
      if (performance.now() > deadline) throw new Error(`not ${phase} within ${PHASE_MS / 1000} s`)
      await delay(500)
    }
  }
  const first = (await statusOf(mesh)).root.fingerprint
  t.same(await published(), [first])
  const requests = traffic()

  await t.test(
    'it waits for a replica of an older version, and for a pod that cannot be heard, by name',
    async t => {
      await mesh.startReplica('injector-old', {
        main: old,
        settings: { maxLeafLifetimeSeconds: LEAF_SECONDS },
      })
      await mesh.createPod('silent', '127.77.0.9')
      const { code, err } = await postern(mesh, 'ca', 'rotate')
      t.same([code, err], [0, 'a new root is published\n'])
      await until(async () => (await statusOf(mesh)).unconfirmed.count > 0)
      await until(async () => /does not answer/.test((await statusOf(mesh)).waitingFor.join()))
      const { phase, next, waitingFor, unconfirmed, rotation } = await statusOf(mesh)
      t.equal(phase, 'publishing')
      t.equal(rotation?.by, 'admin')
      t.match(waitingFor.join('\n'), /replica injector-old does not answer: .*of a version that cannot say/)
      t.match(
        unconfirmed.pods.find(({ pod }) => pod === 'shop/silent'),
        { reason: 'not connected' },
      )
      await until(async () => (await published()).includes(next?.fingerprint ?? ''))
    },
  )

  await t.test('a leader that is killed while it publishes is followed by one that goes on', async t => {
    const { next } = await statusOf(mesh)
    await mesh.killReplica('injector-old')
    await mesh.killReplica(await mesh.leader())
    await mesh.startReplica('injector-2')
    const { code, err } = await postern(mesh, 'ca', 'rotate', '--skip', 'shop/silent')
    t.same([code, err], [0, 'not waited for: shop/silent\n'])
    const { next: after, rotation } = await statusOf(mesh)
    t.equal(after?.fingerprint, next?.fingerprint, 'no second root')
    t.match(rotation?.skipped, [{ pod: 'shop/silent', by: 'admin' }])
  })

  await t.test('a pod that does not exist cannot be skipped', async t => {
    const { code, err } = await postern(mesh, 'ca', 'rotate', '--skip', 'shop/sielnt')
    t.equal(code, 1)
    t.match(err, /PSTN_CA_REFUSED: there is no live pod shop\/sielnt/)
  })

  await t.test('with all others confirmed the new root signs, and both are trusted', async t => {
    const { next } = await statusOf(mesh)
    await phaseIs('switched')
    const { root, retired } = await statusOf(mesh)
    t.equal(root.fingerprint, next?.fingerprint)
    t.same(
      retired.map(({ fingerprint }) => fingerprint),
      [first],
    )
    t.same(await published(), [root.fingerprint, first])
    const { data = {} } = await kube.get<SecretObject>(systemPath(`secrets/${CA_SECRET}`))
    t.equal(data['next-root.key'], undefined)
    t.same(
      Object.keys(data)
        .filter(key => key.endsWith('.key'))
        .sort(),
      ['issuer.key', 'root.key'],
    )
  })

  await t.test(
    'a leader that is killed after the switch is followed by one that drops the old root in time',
    async t => {
      await mesh.killReplica(await mesh.leader())
      await mesh.startReplica('injector-3')
      await until(async () => (await statusOf(mesh)).rotation?.drop !== undefined)
      const { rotation } = await statusOf(mesh)
      await phaseIs('idle')
      t.ok(Date.now() >= Date.parse(rotation?.drop ?? ''), 'not before its time')
      const { root, former } = await statusOf(mesh)
      t.same(await published(), [root.fingerprint])
      t.match(await trustData(), { 'retired-roots': first, 'revoked-roots': '' }, 'in the same write')
      t.match(former, [{ fingerprint: first, end: 'retired', by: 'admin' }])
      t.equal(former.length, 1)
    },
  )

  await t.test('no request noticed', async t => {
    const answers = await requests.stop()
    t.same(Object.keys(answers), ['200'], JSON.stringify(answers))
    t.ok((answers['200'] ?? 0) > 500, `${answers['200']} requests`)
  })

  await t.test('what a root’s revocation costs is said before it is done', async t => {
    const { root } = await statusOf(mesh)
    const { code, err } = await postern(mesh, 'ca', 'revoke-root', root.fingerprint.slice(0, 16))
    t.equal(code, 1)
    t.match(err, /A new root takes its place at once: every connection .* ends.*add --yes/s)
    t.equal((await statusOf(mesh)).root.fingerprint, root.fingerprint)
    const slip = await postern(mesh, 'ca', 'revoke-root', 'f'.repeat(64), '--yes')
    t.same([slip.code, /no root has the fingerprint/.test(slip.err)], [2, true])
  })

  await t.test('when the root that signs is revoked the mesh heals unattended, within seconds', async t => {
    const { root } = await statusOf(mesh)
    const started = performance.now()
    const logged = [server, client].map(({ lines }) => lines.length)
    const { code, err } = await postern(mesh, 'ca', 'revoke-root', root.fingerprint, '--yes')
    t.equal(code, 0, err)
    const after = await statusOf(mesh)
    t.not(after.root.fingerprint, root.fingerprint)
    t.same(after.former[0], {
      ...after.former[0],
      fingerprint: root.fingerprint,
      end: 'revoked',
      by: 'admin',
    })
    await until(async () => (await published()).join() === after.root.fingerprint)
    t.match(await trustData(), { 'retired-roots': first, 'revoked-roots': root.fingerprint })
    await until(async () => (await call(URL_OF_APP)).status === 200)
    t.comment(`requests pass again after ${Math.round(performance.now() - started)} ms`)
    for (const [index, { name, lines }] of [server, client].entries()) {
      const since = (msg: string) => lines.slice(logged[index]).some(line => line.msg === msg)
      await until(async () => since('certificate issued') && since('control connected'))
      t.pass(`${name} has a new certificate and its control stream again`)
    }
    t.ok(performance.now() - started < 20_000)
    t.equal((await call(URL_OF_APP)).status, 200)
  })

  await t.test(
    'a Secret that somebody replaced is refused by every replica, and nothing changes',
    async t => {
      const path = systemPath(`secrets/${CA_SECRET}`)
      const own = await kube.get<SecretObject>(path)
      const before = await published()
      const root = await createRoot('cluster.local', Date.now())
      const issuer = await createIssuer(root, 'cluster.local', Date.now())
      await kube.replace(path, toSecret({ root, issuer }, SYSTEM_NAMESPACE))
      const refused = (value: number) =>
        until(async () => {
          const values = await Promise.all(
            [...mesh.replicas.values()].map(one => one.metric('postern_ca_refused')),
          )
          return values.every(one => one === value)
        })
      await refused(1)
      t.same(await published(), before)
      t.equal((await call(URL_OF_APP)).status, 200)
      const { resourceVersion: _, ...metadata } = own.metadata
      await kube.replace(path, { ...own, metadata })
      await refused(0)
    },
  )

  await t.test('a CA that is lost without a backup is made anew, and no pod need be restarted', async t => {
    const before = await published()
    for (const name of [...mesh.replicas.keys()]) await mesh.killReplica(name)
    await kube.delete(systemPath(`secrets/${CA_SECRET}`))
    await kube.delete(systemPath(`configmaps/${TRUST_CONFIGMAP}`))
    t.equal((await call(URL_OF_APP)).status, 200, 'while nobody leads nothing changes')
    const started = performance.now()
    const logged = [server, client].map(({ lines }) => lines.length)
    await mesh.startReplica('injector-4')
    for (const [index, { name, lines }] of [server, client].entries()) {
      const since = (msg: string) => lines.slice(logged[index]).some(line => line.msg === msg)
      const healed = () => until(async () => since('certificate issued') && since('control connected'))
      // The Lease of the one that was killed has to end first.
      await healed().catch(healed)
      t.pass(`${name} has a certificate of the new CA`)
    }
    await until(async () => (await call(URL_OF_APP)).status === 200)
    t.comment(`requests pass again ${Math.round(performance.now() - started)} ms after a replica was started`)
    t.notSame(await published(), before)
  })
})
