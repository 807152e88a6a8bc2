// Revoked and renewed under live traffic: what `postern certs revoke` and `certs renew` do to connections between real
// sidecars. The command, the API server, the injector and the sidecars are real, the pods are network namespaces.
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { certsRenew } from '../../cli/certs/renew.ts'
import { certsRevoke } from '../../cli/certs/revoke.ts'
import { run } from '../../cli/run.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { until } from '../kube/support/installation.ts'
import type { LogLine, RunningPod } from '../support/namespace-kubelet.ts'
import { type Application, startApplication } from '../support/netns-applications.ts'
import type { Script, Transcript } from '../support/netns-conversation.ts'
import { isReady, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING, PONG, refusedBy } from '../support/netns-pair.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const PORT = 7000
/** A second is promised; machines may be slow. */
const GENEROUS_MS = 10_000
const ANSWER: Script = [...PONG, ...PONG, { do: 'receiveEnd' }, { do: 'end' }]
const TALK: Script = [...PING, ...PING, ...CLOSE]
const HELD: Script = [...PING, { do: 'receiveReset' }]
const held = (gate: string): Script => [...PING, { do: 'gate', name: gate }, ...PING, ...CLOSE]

t.test('revocation between sidecars', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const pods = await Promise.all(['server', 'thief', 'honest'].map(name => mesh.start(name)))
  const apps = await Promise.all(pods.map(({ namespace }) => startApplication(namespace)))
  const [server, thief, honest] = pods
  const [serverApp, thiefApp, honestApp] = apps
  if (!server || !thief || !honest || !serverApp || !thiefApp || !honestApp) throw new Error('three pods')
  for (const app of apps) await app.serve({ port: PORT, meet: true, script: ANSWER })

  const typed = async (words: string): Promise<void> => {
    let said = ''
    const code = await run(words.split(' '), {
      commands: [certsRevoke, certsRenew],
      sink: {
        out: () => undefined,
        err: text => {
          said += text
        },
      },
      signal: new AbortController().signal,
      version: 'test',
      connect: async () => connectKube(mesh.server.endpoint),
    })
    if (code !== 0) throw new Error(said)
  }
  let introduced = 0
  const dial = (from: Application, to: RunningPod, script: Script): Promise<Transcript> => {
    introduced += 1
    return from.dial({ host: to.ipv4, port: PORT, introduce: introduced, script, timeoutMs: 60_000 })
  }
  const talks = async (from: Application, to: RunningPod) => isWhole(await dial(from, to, TALK))
  const liveAt = async (app: Application) =>
    (await app.live({ port: PORT })).filter(({ sent }) => sent === 1).length

  /** Live connections in every direction, then `revoke`: those of the thief end at once, and no others. */
  const endsThiefsAlone = async (t: Test, what: string, revoke: string) => {
    const fromThief = dial(thiefApp, server, HELD)
    const toThief = dial(serverApp, thief, HELD)
    const other = dial(honestApp, server, held(what))
    await until(async () => (await liveAt(serverApp)) === 2 && (await liveAt(thiefApp)) === 1)
    const started = performance.now()
    await typed(revoke)
    const commanded = performance.now()
    for (const transcript of await Promise.all([fromThief, toThief])) {
      t.ok(transcript.reset, `cut off: ${JSON.stringify(transcript)}`)
    }
    const ended = performance.now()
    t.comment(
      `${what}: both ends ${Math.round(ended - commanded)} ms after the command had ended, which took ${Math.round(commanded - started)} ms`,
    )
    t.ok(ended - commanded < GENEROUS_MS)
    await honestApp.open({ gate: what })
    t.ok(isWhole(await other), 'a live connection of another pod goes on')
  }

  const refusesBothWays = async (t: Test) => {
    const counts = () =>
      Promise.all([
        refusedBy(server, 'inbound', 'PSTN_PEER_REVOKED'),
        refusedBy(server, 'outbound', 'PSTN_PEER_REVOKED'),
        refusedBy(thief, 'outbound', 'PSTN_PEER_REVOKED'),
      ])
    const before = await counts()
    t.notOk(await talks(thiefApp, server), 'the server refuses the caller')
    t.notOk(await talks(serverApp, thief), 'the caller refuses the server')
    t.ok(await talks(honestApp, server), 'control: another pod is let in')
    t.match(await server.line(isRefusal('inbound')), { reason: /is revoked/ })
    t.match(await server.line(isRefusal('outbound')), { reason: /is revoked/ })
    const after = await counts()
    t.ok(
      after.every((count, index) => count > (before[index] ?? 0)),
      `each counts it: ${after.join(', ')}`,
    )
    t.match(await thief.line(isRefusal('outbound')), { reason: /refused us/ })
  }

  const serialOf = async (pod: RunningPod): Promise<string> => {
    const issued = pod.lines.findLast(({ msg }) => msg === 'certificate issued')
    return String(issued?.serial)
  }

  for (const [from, to] of [
    [thiefApp, server],
    [serverApp, thief],
    [honestApp, server],
  ] as const) {
    t.ok(await talks(from, to), 'at first everybody talks')
  }

  await t.test('a certificate: its connections end, and its sidecar gets another one by itself', async t => {
    const serial = await serialOf(thief)
    await endsThiefsAlone(t, 'serial', `certs revoke ${serial}`)
    t.match(await thief.line(({ code }) => code === 'PSTN_CERT_REVOKED'), {
      level: 'error',
      msg: 'control lost',
    })
    await until(async () => (await serialOf(thief)) !== serial)
    await until(() => talks(thiefApp, server))
    await until(() => talks(serverApp, thief))
    t.pass('it talks again')
  })

  await t.test('renew --all gives every sidecar another certificate, and costs no connection', async t => {
    const before = await Promise.all(pods.map(serialOf))
    const other = dial(honestApp, server, held('renewed'))
    await until(async () => (await liveAt(serverApp)) >= 1)
    await typed('certs renew --all --within 2s')
    const failed: Transcript[] = []
    let requests = 0
    const renewed = async () =>
      (await Promise.all(pods.map(serialOf))).every(serial => !before.includes(serial))
    const deadline = performance.now() + 30_000
    let after = 0
    while (after < 20 && performance.now() < deadline) {
      const transcripts = await Promise.all([dial(honestApp, server, TALK), dial(serverApp, thief, TALK)])
      requests += transcripts.length
      failed.push(...transcripts.filter(transcript => !isWhole(transcript)))
      if (await renewed()) after += 1
    }
    t.ok(await renewed(), 'all have renewed')
    t.same(failed, [], `of ${requests} connections`)
    await honestApp.open({ gate: 'renewed' })
    t.ok(isWhole(await other), 'a live connection outlasts it')
    const issued = pods.map(({ lines }) => lines.filter(({ msg }) => msg === 'certificate issued').length)
    t.same(issued, [2, 3, 2], 'once each')
  })

  await t.test('an identity: all of it ends, and it gets nothing new', async t => {
    const identity = 'spiffe://cluster.local/ns/shop/sa/thief'
    await endsThiefsAlone(t, 'identity', `certs revoke ${identity}`)
    await refusesBothWays(t)
    t.match(await thief.line(({ code }) => code === 'PSTN_CSR_DENIED'), { error: /revoked: the identity/ })
    await typed(`certs revoke ${identity} --undo`)
    await until(() => talks(thiefApp, server))
    await until(() => talks(serverApp, thief))
    t.pass('lifted, it talks again')
  })

  await t.test(
    'a pod: all of it ends, and a sidecar that restarts without an injector still refuses it',
    async t => {
      await endsThiefsAlone(t, 'pod', 'certs revoke shop/thief')
      await refusesBothWays(t)
      await mesh.injector.running.stop('SIGKILL')
      const exited = once(server.sidecar, 'exit')
      server.sidecar.kill('SIGKILL')
      await exited
      const restartedAt = server.lines.length
      server.restart()
      await until(() => isReady(server))
      t.notOk(await talks(thiefApp, server))
      await until(async () => server.lines.slice(restartedAt).some(isRefusal('inbound')))
      t.notOk(await talks(serverApp, thief))
      await until(async () => server.lines.slice(restartedAt).some(isRefusal('outbound')))
      t.ok(await talks(honestApp, server), 'control')
    },
  )
})

const isRefusal = (direction: string) => (line: LogLine) =>
  line.msg === 'decision' && line.code === 'PSTN_PEER_REVOKED' && line.direction === direction
