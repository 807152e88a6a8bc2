// The API server, then the injector, away until certificates have expired, under traffic that never stops: not one
// connection fails while both sidecars have a certificate, none passes afterwards, and all is well again by itself.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startApplication } from '../support/netns-applications.ts'
import { startAgent } from '../support/netns-client.ts'
import { type Mesh, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING, PONG } from '../support/netns-pair.ts'
import {
  codesBetween,
  dialOn,
  expiryOf,
  issuedSince,
  judge,
  untilAllExpired,
  untilHealed,
} from '../support/outage.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const PORT = 8080
const KEPT_PORT = 7000
/** Renewed after 3 to 5 seconds. */
const LEAF_SECONDS = 10
const EXPIRED_FOR_MS = 3_000
/** A dead leader's Lease is waited for, then attempts come at most half a minute apart. */
const PATIENCE_MS = 60_000

type Outage = {
  readonly name: string
  readonly begin: (mesh: Mesh) => Promise<void>
  readonly end: (mesh: Mesh) => Promise<unknown>
}

const OUTAGES: readonly Outage[] = [
  { name: 'the API server', begin: ({ server }) => server.stop(), end: ({ server }) => server.start() },
  {
    name: 'the injector',
    begin: ({ injector }) => injector.running.stop('SIGKILL'),
    end: mesh => mesh.restartInjector(),
  },
]

t.test('outages past expiry', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack, { leafSeconds: LEAF_SECONDS })
  const [client, server] = await Promise.all([mesh.start('client'), mesh.start('server')])
  const [clientApp, serverApp] = await Promise.all([
    startAgent(client.namespace, { uid: 1000 }),
    startAgent(server.namespace, { uid: 1000 }),
  ])
  await serverApp.serve({ by: 'server', host: '::', port: PORT })
  const [talker, listener] = await Promise.all([
    startApplication(client.namespace),
    startApplication(server.namespace),
  ])
  await listener.serve({ port: KEPT_PORT, script: [...PONG, ...PONG, ...CLOSE] })

  for (const { name, begin, end } of OUTAGES) {
    await t.test(`${name} is away past expiry, and back`, async t => {
      const traffic = dialOn(clientApp, server.ipv4, PORT)
      const kept = talker.dial({
        host: server.ipv4,
        port: KEPT_PORT,
        script: [...PING, { do: 'gate', name }, ...PING, ...CLOSE],
      })
      await delay(1_000)
      await begin(mesh)
      const gone = Date.now()
      await untilAllExpired([client, server], EXPIRED_FOR_MS)
      const expiry = Math.min(expiryOf(client), expiryOf(server))
      await talker.open({ gate: name })
      t.ok(isWhole(await kept), 'a connection from before goes on after expiry')
      const returning = Date.now()
      await end(mesh)
      const back = Date.now()
      const healed = await untilHealed(traffic, back, PATIENCE_MS)
      await traffic.stop()

      judge(t, traffic, expiry, returning)
      // Whoever expires first says so; twenty lines of a code, then they are only counted.
      const codes = codesBetween(client, expiry, returning)
      t.ok(codes.delete('PSTN_CERT_EXPIRED'), 'the caller’s own certificate')
      codes.delete('PSTN_PEER_EXPIRED')
      t.same([...codes], [], 'and no other code')
      t.same([...codesBetween(client, gone, expiry)], [])
      for (const pod of [client, server])
        t.ok(issuedSince(pod, returning).length > 0, `${pod.pod.metadata?.name} has a new certificate`)
      t.comment(
        `${name}: back ${back - returning} ms after its start, traffic ${healed - back} ms after that`,
      )
    })
  }
})
