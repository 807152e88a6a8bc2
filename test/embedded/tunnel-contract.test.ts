// One contract for every pairing of ends: ours at both, and node:http2, as another HBONE peer, at either.
import t from 'tap'
import type { DuplexOf } from '../support/duplex-of.ts'
import { withDuplex } from '../support/duplex-of.ts'
import { nodeHttp2Client, nodeHttp2Server } from '../support/node-http2.ts'
import { type Streams, streamContract } from '../support/stream-contract.ts'
import { tunnelPair } from '../support/tunnel-pair.ts'

/** What one end opens and the other accepts, matched in order. */
function matched(open: () => Promise<DuplexOf>) {
  const accepted: DuplexOf[] = []
  const waiting: ((stream: DuplexOf) => void)[] = []
  const accept = (stream: DuplexOf) => {
    const next = waiting.shift()
    if (next) next(stream)
    else accepted.push(stream)
  }
  let last: Promise<unknown> = Promise.resolve()
  const one = async () => {
    const client = await open()
    const { promise, resolve } = Promise.withResolvers<DuplexOf>()
    const stream = accepted.shift()
    if (stream) resolve(stream)
    else waiting.push(resolve)
    return { client, server: await promise }
  }
  return {
    accept,
    open: () => {
      const opened = last.then(one)
      last = opened
      return opened
    },
  }
}

const toSelf = async (): Promise<Streams> => {
  const streams = matched(async () => (await pair.open()).stream)
  const pair = await tunnelPair({ onRequest: withDuplex(request => streams.accept(request.accept())) })
  return {
    open: streams.open,
    cut: () => pair.dialer.closePeers(() => false, 'PSTN_PEER_UNTRUSTED'),
    [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
  }
}

const fromNode = async (): Promise<Streams> => {
  const streams = matched(async () => (await client.open()).stream)
  const pair = await tunnelPair({ onRequest: withDuplex(request => streams.accept(request.accept())) })
  const tls = pair.clientTls.get()
  if (!tls) throw new Error('the pair has a credential')
  const client = nodeHttp2Client(tls, pair.server.port)
  return {
    open: streams.open,
    cut: () => client.session.destroy(),
    async [Symbol.asyncDispose]() {
      client.session.destroy()
      await pair[Symbol.asyncDispose]()
    },
  }
}

const toNode = async (): Promise<Streams> => {
  const streams = matched(async () => (await pair.open()).stream)
  let node: Awaited<ReturnType<typeof nodeHttp2Server>> | undefined
  const pair = await tunnelPair({
    onRequest: () => {},
    dialPort: async (_, tls) => {
      node = await nodeHttp2Server(tls, streams.accept)
      return node.port
    },
  })
  return {
    open: streams.open,
    cut: () => node?.close(),
    async [Symbol.asyncDispose]() {
      node?.close()
      await pair[Symbol.asyncDispose]()
    },
  }
}

streamContract('ours to ours', toSelf)
streamContract('node:http2 to ours', fromNode)
streamContract('ours to node:http2', toNode)

t.test('node:http2 is told a refusal’s status and code, and asks again on the same connection', async t => {
  await using pair = await tunnelPair({ onRequest: request => request.refuse(403, 'PSTN_POLICY_DENIED') })
  const tls = pair.clientTls.get()
  if (!tls) throw new Error('the pair has a credential')
  const client = nodeHttp2Client(tls, pair.server.port)
  for (const _ of ['first', 'second'])
    t.match(await client.open(), { status: 403, code: 'PSTN_POLICY_DENIED' })
  client.session.destroy()
})

t.test('another server’s refusals are told apart: ours by their code, others by their status', async t => {
  const refusals = [{ ':status': 403, 'postern-code': 'PSTN_POLICY_DENIED' }, { ':status': 503 }]
  let node: Awaited<ReturnType<typeof nodeHttp2Server>> | undefined
  await using pair = await tunnelPair({
    onRequest: () => {},
    dialPort: async (_, tls) => {
      node = await nodeHttp2Server(
        tls,
        () => {},
        () => refusals.shift(),
      )
      return node.port
    },
  })
  await t.rejects(pair.open(), { code: 'PSTN_POLICY_DENIED' })
  await t.rejects(pair.open(), { code: 'PSTN_PEER_UNREACHABLE', message: /503/ })
  node?.close()
})
