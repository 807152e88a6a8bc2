// `postern ca` against a real API server, with the test in the leader's place: missing rights, nobody who leads, another cluster
// than was meant, two operators at once, and what each answer makes of the exit code.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { caRevokeRoot } from '../../cli/ca/revoke-root.ts'
import { caRotate } from '../../cli/ca/rotate.ts'
import { caStatus } from '../../cli/ca/status.ts'
import { connectCluster } from '../../cli/kubeconfig.ts'
import { createIssuer, createRoot } from '../../injector/ca/authority.ts'
import { type SecretObject, toSecret } from '../../injector/ca/material.ts'
import { pendingRequests } from '../../injector/ca/requests.ts'
import { publishStatus, statusOf } from '../../injector/ca/status.ts'
import type { CaAnswer } from '../../shared/ca/record.ts'
import type { CaStatus } from '../../shared/ca/status.ts'
import { CA_CONFIGMAP, CA_SECRET, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { startApiServer } from '../support/api-server.ts'
import { typed as typedAt } from '../support/command-line.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { createNamespace, createServiceAccount, systemPath } from './support/installation.ts'

const SECRET = systemPath(`secrets/${CA_SECRET}`)
const STATUS = systemPath(`configmaps/${CA_CONFIGMAP}`)

const ROLES = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: looks, namespace: ${SYSTEM_NAMESPACE}}
rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [${CA_CONFIGMAP}], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: looks, namespace: ${SYSTEM_NAMESPACE}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: looks}
subjects: [{kind: ServiceAccount, name: looker, namespace: people}]
`

t.test('postern ca on a real API server', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer())
  const { kube } = server
  for (const name of [SYSTEM_NAMESPACE, 'people']) await createNamespace(kube, name)
  for (const name of ['looker', 'nobody']) await createServiceAccount(kube, 'people', name)
  const applied = await server.kubectl(['apply', '-f', '-'], ROLES)
  if (applied.code !== 0) throw new Error(applied.stderr)
  const root = await createRoot('cluster.local', Date.now())
  const material = { root, issuer: await createIssuer(root, 'cluster.local', Date.now()) }
  await kube.create(systemPath('secrets'), toSecret(material, SYSTEM_NAMESPACE))

  const directory = scratchDirectory(t)
  const { cert = '', key = '' } = server.endpoint.clientCertificate ?? {}
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const users = {
    admin: { 'client-certificate-data': base64(cert), 'client-key-data': base64(key) },
    looker: { token: await server.tokenFor('people', 'looker') },
    nobody: { token: await server.tokenFor('people', 'nobody') },
  }
  const file = join(directory, 'config')
  await writeFile(
    file,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'here',
          cluster: {
            server: server.serverUrl,
            'certificate-authority-data': base64(server.ca),
          },
        },
        { name: 'gone', cluster: { server: 'https://127.0.0.1:1' } },
      ],
      users: Object.entries(users).map(([name, user]) => ({ name, user })),
      contexts: [
        ...Object.keys(users).map(name => ({ name, context: { cluster: 'here', user: name } })),
        { name: 'gone', context: { cluster: 'gone', user: 'admin' } },
      ],
      'current-context': 'admin',
    }),
  )
  const typed = async (words: string, signal = AbortSignal.timeout(30_000)) => {
    return typedAt([...words.split(' '), '--kubeconfig', file], {
      commands: [caStatus, caRotate, caRevokeRoot],
      signal,
      connect: connectCluster,
    })
  }
  const publish = (answers: readonly CaAnswer[], more: Partial<CaStatus> = {}) => {
    const status = { ...statusOf(material, { waitingFor: [], unconfirmed: [], lingering: [] }), answers }
    return publishStatus(kube, SYSTEM_NAMESPACE, { ...status, ...more }, new AbortController().signal)
  }
  const pending = async () =>
    pendingRequests((await kube.get<SecretObject>(SECRET)).metadata.annotations).map(({ id }) => id)
  /** Answers the next `count` requests, as the leader does, but without doing them. */
  const answer = async (
    count: number,
    done: CaAnswer['done'],
    says: string,
    more: Partial<CaStatus> = {},
  ) => {
    let ids: string[] = []
    while (ids.length < count) {
      await delay(20)
      ids = await pending()
    }
    const at = new Date().toISOString()
    await publish(
      ids.map(id => ({ id, by: 'admin', at, done, says })),
      more,
    )
    const annotations = Object.fromEntries(ids.map(id => [`ca-request.postern.dev/${id}`, null]))
    await kube.patch(SECRET, 'application/merge-patch+json', { metadata: { annotations } })
    return ids
  }

  await t.test('where no injector leads yet it says so', async t => {
    t.match(await typed('ca status'), {
      code: 1,
      out: '',
      err: /^postern: PSTN_API_UNAVAILABLE: there is no ConfigMap postern-system\/postern-ca: no injector of this version leads/,
    })
    t.match(await typed('ca rotate'), { code: 1, err: /no injector of this version leads/ })
    t.same(await pending(), [], 'and nothing was asked')
  })

  await publish([])
  await t.test('who may not read is told, and who may not ask asks nothing', async t => {
    t.match(await typed('ca status --context nobody'), { code: 1, out: '', err: /forbidden/ })
    t.match(await typed('ca status --context looker'), { code: 0, out: /^phase +idle\nroot / })
    t.match(await typed('ca rotate --context looker'), {
      code: 1,
      err: /forbidden.*secrets|secrets.*forbidden/,
    })
    const { fingerprint } = JSON.parse((await typed('ca status --json')).out).root
    t.match(await typed(`ca revoke-root ${fingerprint} --context looker`), { code: 1, err: /add --yes/ })
    t.match(await typed(`ca revoke-root ${fingerprint} --yes --context looker`), {
      code: 1,
      err: /forbidden/,
    })
    t.same(await pending(), [])
  })

  await t.test('another context than there is, or a cluster that is away', async t => {
    t.match(await typed('ca status --context nowhere'), { code: 1, out: '', err: /PSTN_CONFIG_INVALID/ })
    t.match(await typed('ca rotate --context gone'), {
      code: 1,
      out: '',
      err: /PSTN_API_UNAVAILABLE|ECONNREFUSED|fetch failed/,
    })
    t.match(
      await typed(`ca status --kubeconfig ${join(directory, 'none')}`),
      { code: 0 },
      'the last one counts',
    )
  })

  await t.test('a status that is no status is refused, not half shown', async t => {
    const whole = await kube.get<{ data: Record<string, string> }>(STATUS)
    for (const text of ['{', '{}', '{"phase":"odd"}']) {
      await kube.patch(STATUS, 'application/merge-patch+json', { data: { 'status.json': text } })
      t.match(await typed('ca status'), {
        code: 1,
        out: '',
        err: /PSTN_CONFIG_INVALID: ConfigMap postern-ca/,
      })
    }
    await kube.patch(STATUS, 'application/merge-patch+json', { data: whole.data })
  })

  await t.test('what the leader refuses is exit code 1, with its words', async t => {
    const [outcome] = await Promise.all([typed('ca rotate'), answer(1, 'refused', 'a rotation runs')])
    t.match(outcome, { code: 1, out: '', err: 'postern: PSTN_CA_REFUSED: a rotation runs\n' })
  })

  await t.test('two operators at once are both heard, and each gets its own answer', async t => {
    const both = [typed('ca rotate'), typed('ca rotate --skip shop/web')]
    const ids = await answer(2, 'done', 'a new root is published')
    t.equal(new Set(ids).size, 2)
    for (const outcome of await Promise.all(both))
      t.match(outcome, { code: 0, err: 'a new root is published\n', out: /^phase +idle/ })
  })

  await t.test('a root that something publishes still is not revoked, whatever was answered', async t => {
    const { fingerprint } = JSON.parse((await typed('ca status --json')).out).root
    const lingering = [{ fingerprint, where: 'ClusterTrustBundle postern.dev:workload:roots' }]
    const revoking = typed(`ca revoke-root ${fingerprint} --yes`)
    await answer(1, 'done', 'another root signs', { lingering })
    await delay(1_500)
    await publish([])
    t.match(await revoking, { code: 0, err: 'another root signs\n' })
    const other = [{ fingerprint: 'ab'.repeat(32), where: 'ConfigMap postern-trust' }]
    const [outcome] = await Promise.all([
      typed(`ca revoke-root ${fingerprint} --yes`),
      answer(1, 'done', 'another root signs', { lingering: other }),
    ])
    t.match(
      outcome,
      { code: 0, out: /LINGERING +(ab)+/ },
      'one of another rotation is shown, and not waited for',
    )
  })

  await t.test('--wait tells what is waited for, a line each, and ends when the rotation does', async t => {
    const rotation = { by: 'alice', began: new Date().toISOString(), skipped: [] }
    const pods = [{ pod: 'shop/web', reason: 'not connected' }]
    const more = { rotation, waitingFor: ['1 pods have not confirmed'], unconfirmed: { count: 1, pods } }
    await publish([], { phase: 'publishing', ...more })
    const waiting = typed('ca rotate --wait')
    await delay(1_000)
    await publish([])
    t.match(await waiting, {
      code: 0,
      err: 'a rotation runs already\npublishing: 1 pods have not confirmed\n  shop/web: not connected\n',
    })
  })

  await t.test(
    'an interrupted command ends with 130, and its request stays for whoever leads next',
    async t => {
      const interrupt = new AbortController()
      const asking = typed('ca rotate', interrupt.signal)
      while ((await pending()).length === 0) await delay(20)
      interrupt.abort()
      t.match(await asking, { code: 130, out: '' })
      t.equal((await pending()).length, 1)
    },
  )
})
