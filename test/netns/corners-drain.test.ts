// The end of a sidecar whose pod is told to stop: its application may go on with what it has begun, for as long as its
// owner allows, and not a moment longer.
import t from 'tap'
import { until } from '../kube/support/installation.ts'
import { terminate } from '../support/namespace-kubelet.ts'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING, PONG, startPair, untilNothingIsOpen } from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const PORT = 7000
const DRAIN_SECONDS = 2
const ANSWER: Script = [...PONG, { do: 'receiveEnd' }, { do: 'end' }]
const TALK: Script = [...PING, ...CLOSE]
const HELD: Script = [...PING, { do: 'receiveEnd' }, { do: 'end' }]

t.test('the end of a sidecar', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const pair = await startPair(t, stack)
  const { mesh, server, serverApp, client, clientApp } = pair
  const [patient, hasty] = await Promise.all([
    mesh.start('patient'),
    mesh.start('hasty', { annotations: { 'postern.dev/drain-seconds': String(DRAIN_SECONDS) } }),
  ])
  const [patientApp, hastyApp] = await Promise.all([
    startApplication(patient.namespace),
    startApplication(hasty.namespace),
  ])
  for (const app of [serverApp, patientApp, hastyApp])
    await app.serve({ port: PORT, meet: true, script: ANSWER })
  const opened = (app: typeof serverApp, count: number) =>
    until(async () => (await app.live({ port: PORT })).filter(({ sent }) => sent === 1).length === count)

  await t.test('while an application serves its last callers, it may still dial', async t => {
    const script: Script = [...PING, { do: 'gate', name: 'served' }, ...CLOSE]
    const caller = clientApp.dial({ host: patient.ipv4, port: PORT, introduce: 1, script })
    await opened(patientApp, 1)
    const exited = terminate(patient)
    await patient.line(({ msg }) => msg === 'draining')
    const dials = await patientApp.dialMany({ host: server.ipv4, port: PORT, script: TALK, count: 20 })
    t.same(dials.counts, { done: 20 })
    const refused = await clientApp.dial({ host: patient.ipv4, port: PORT, introduce: 2, script: TALK })
    t.match(refused, { error: /ECONNRESET|EPIPE/, received: 0 }, 'and is not called anew')
    t.equal(patient.sidecar.exitCode, null)
    await clientApp.open({ gate: 'served' })
    t.ok(isWhole(await caller), 'its last caller is served to the end')
    t.match(await exited, { status: 0 })
    t.match(await patientApp.dial({ host: server.ipv4, port: PORT, script: TALK }), { error: 'ECONNREFUSED' })
  })

  await t.test('when the time to drain is over, what is still open is reset at every end', async t => {
    await serverApp.settled({ port: PORT })
    const called = clientApp.dialMany({ host: hasty.ipv4, port: PORT, count: 5, from: 10, script: HELD })
    const calling = hastyApp.dialMany({ host: server.ipv4, port: PORT, count: 5, from: 20, script: HELD })
    await Promise.all([opened(hastyApp, 5), opened(serverApp, 5)])
    const { status, ms } = await terminate(hasty)
    t.equal(status, 0)
    t.ok(ms >= DRAIN_SECONDS * 1_000 && ms < DRAIN_SECONDS * 1_000 + 2_000, `after ${Math.round(ms)} ms`)
    for (const { counts } of [await called, await calling])
      t.same(counts, { 'ECONNRESET after step 2 of 4': 5 })
    for (const app of [hastyApp, serverApp]) {
      const saw = (await app.settled({ port: PORT })).filter(({ id }) => id >= 10)
      t.equal(saw.filter(({ error, ended }) => error === 'ECONNRESET' && !ended).length, 5)
    }
    for (const direction of ['inbound', 'outbound'])
      await hasty.line(isConnection({ direction, outcome: 'closed', code: 'PSTN_DRAINING' }))
    await client.line(isConnection({ direction: 'outbound', outcome: 'reset' }))
    await untilNothingIsOpen(pair)
  })
})
