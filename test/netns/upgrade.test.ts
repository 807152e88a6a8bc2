// While a cluster is upgraded, or an upgrade is taken back, injector and sidecars are of different versions: they carry each
// other's connections, under the policy in force.
import { join } from 'node:path'
import t from 'tap'
import { until } from '../kube/support/installation.ts'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, MESH_NAMESPACE, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole } from '../support/netns-pair.ts'
import { releasedSources } from '../support/released.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'

const BYTES = 5_000_000
const SEND: Script = [
  { do: 'send', bytes: BYTES },
  { do: 'receive', bytes: BYTES },
]
const ANSWER: Script = [
  { do: 'receive', bytes: BYTES },
  { do: 'send', bytes: BYTES },
]

const lacking = requireNetns() || requireApiServer() || requireCommands('git', 'tar')

t.test('sidecars of v0.1.0 under this injector', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const main = join(releasedSources(t, '0.1.0'), 'proxy/main.ts')
  const mesh = await startMesh(t, stack)
  const [older, newer] = await Promise.all([mesh.start('older', { main }), mesh.start('newer')])
  for (const [name, from, to] of [
    ['an older one opens tunnels to a newer one', older, newer],
    ['a newer one opens tunnels to an older one', newer, older],
  ] as const)
    await t.test(`${name}, each under its own identity`, async t => {
      const [client, server] = await Promise.all([
        startApplication(from.namespace),
        startApplication(to.namespace),
      ])
      await server.serve({ port: 7000, script: [...ANSWER, ...CLOSE] })
      const saw = await client.dial({ host: to.ipv4, port: 7000, script: [...SEND, ...CLOSE] })
      t.ok(isWhole(saw), JSON.stringify(saw))
      const line = await to.line(isConnection({ direction: 'inbound', outcome: 'ok' }))
      t.match(line, { source: { identity: new RegExp(`/sa/${from.pod.metadata?.name}$`) } })
    })
})

const policy = (spec: string) => ({
  metadata: { name: 'policy', labels: { 'postern.dev/policy': 'true' } },
  data: {
    'policy.yaml': `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: none}\nspec: ${spec}`,
  },
})

t.test('sidecars of this version under an injector of v0.1.0', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const injectorMain = join(releasedSources(t, '0.1.0'), 'injector/main.ts')
  const mesh = await startMesh(t, stack, { injectorMain })
  const [client, server] = await Promise.all([mesh.start('client'), mesh.start('server')])
  const [caller, application] = await Promise.all([
    startApplication(client.namespace),
    startApplication(server.namespace),
  ])
  await application.serve({ port: 7000, script: [...ANSWER, ...CLOSE] })
  const dial = () => caller.dial({ host: server.ipv4, port: 7000, script: [...SEND, ...CLOSE] })

  await t.test('get their certificates and carry connections under their identities', async t => {
    const saw = await dial()
    t.ok(isWhole(saw), JSON.stringify(saw))
    const line = await server.line(isConnection({ direction: 'inbound', outcome: 'ok' }))
    t.match(line, { source: { identity: /\/sa\/client$/ } })
  })

  await t.test('enforce the policy that it sends, as it changes', async t => {
    const path = `/api/v1/namespaces/${MESH_NAMESPACE}/configmaps`
    await mesh.kube.create(path, policy('{}'))
    await until(async () => !isWhole(await dial()))
    const refused = await server.line(isConnection({ direction: 'inbound', code: 'PSTN_POLICY_DENIED' }))
    t.match(refused, { source: { identity: /\/sa\/client$/ } })
    await mesh.kube.delete(`${path}/policy`)
    await until(async () => isWhole(await dial()))
  })

  await t.test('say nothing that it does not know: it has refused nobody', async t => {
    const log = await mesh.injector.log()
    t.match(log, /"msg":"sidecar connected"/, 'it was listened to')
    t.notMatch(log, /PSTN_CONTROL_MALFORMED|control stream refused/)
  })
})
