// One control stream on the wire: mutual TLS to exactly the injector, one HTTP/2 request, newline-delimited JSON both
// ways. What the messages mean is control-client.ts.
import { once } from 'node:events'
import { connect as connectHttp2, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from 'node:http2'
import { decodeFromInjector, MAX_LINE_BYTES } from '../../shared/control/decode.ts'
import { dialInjector, type InjectorTarget } from '../../shared/control/dial.ts'
import {
  CONTROL_PATH,
  FEATURES_HEADER,
  type FromInjector,
  type FromSidecar,
} from '../../shared/control/messages.ts'
import { asPosternError, isCode, PosternError } from '../../shared/errors.ts'
import { lines } from '../../shared/lines.ts'
import { type Anchors, leadsTo } from '../../shared/tls/chain.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'

export type ControlStream = Disposable & {
  readonly injector: VerifiedPeer
  /** Whether the injector's certificate does. */
  leadsTo(anchors: Anchors): boolean
  /** What the injector reads of a status beyond its first version; nothing until it has answered. */
  features(): readonly string[]
  send(message: FromSidecar): void
  /** Ends by throwing PSTN_CONTROL_LOST, PSTN_CONTROL_REJECTED, PSTN_CERT_REVOKED or PSTN_CONTROL_MALFORMED. */
  received(): AsyncGenerator<FromInjector>
}

/** @throws PosternError PSTN_CONTROL_LOST, PSTN_TLS_FAILED or one of verifyPeer's codes. */
export async function openControlStream(target: InjectorTarget, signal: AbortSignal): Promise<ControlStream> {
  const { socket, injector } = await dialInjector(target, signal)
  const session = connectHttp2(`https://${target.address}`, {
    createConnection: () => socket,
    settings: { enablePush: false },
  })
  const failures: unknown[] = []
  session.on('error', error => failures.push(error))
  session.on('goaway', (_code, _lastStream, opaque) => {
    const code = opaque?.toString('latin1') ?? ''
    if (isCode(code)) failures.unshift(rejected(code, `the injector says ${code}`))
  })
  const stream = session.request({
    ':method': 'POST',
    ':path': CONTROL_PATH,
    'content-type': 'application/x-ndjson',
  })
  stream.on('error', error => failures.push(error))
  const closed = new AbortController()
  stream.on('close', () => closed.abort(new Error('the injector closed the stream')))
  const answered = once(stream, 'response', { signal: closed.signal }).catch(thrown => {
    throw lost(failures[0] ?? closed.signal.reason ?? thrown)
  })
  let features: readonly string[] = []
  answered.then(
    ([headers]) => {
      features = listed(headers[FEATURES_HEADER])
    },
    () => undefined,
  )
  const incoming = async function* (): AsyncGenerator<Buffer> {
    try {
      yield* stream
    } catch (thrown) {
      throw lost(failures[0] ?? thrown)
    }
  }
  return {
    injector,
    leadsTo: anchors => leadsTo(anchors, socket),
    features: () => features,
    send: message => {
      if (stream.writable) stream.write(`${JSON.stringify(message)}\n`)
    },
    received: async function* () {
      try {
        await refuseUnlessAccepted(answered, incoming())
        for await (const line of lines(incoming(), MAX_LINE_BYTES.fromInjector))
          yield decodeFromInjector(line)
      } catch (thrown) {
        throw asPosternError(thrown, 'PSTN_CONTROL_MALFORMED')
      }
      throw lost(failures[0] ?? new Error('the injector ended the stream'))
    },
    [Symbol.dispose]: () => session.destroy(),
  }
}

async function refuseUnlessAccepted(
  answered: Promise<unknown[]>,
  body: AsyncGenerator<Buffer>,
): Promise<void> {
  const [headers] = (await answered) as [IncomingHttpHeaders & IncomingHttpStatusHeader]
  const status = headers[':status']
  if (status === 200) return
  const { value: reason = '' } = await lines(body, MAX_REASON_BYTES).next()
  const code = headers['postern-code'] ?? 'no code'
  throw rejected(code, `the injector answered ${status} (${code}): ${reason}`)
}

/** What is said of a peer there is said of us. */
const rejected = (code: string | string[], message: string): PosternError =>
  new PosternError(code === 'PSTN_PEER_REVOKED' ? 'PSTN_CERT_REVOKED' : 'PSTN_CONTROL_REJECTED', message)

const MAX_REASON_BYTES = 4096

/** A header's list; of one that comes twice Node makes an array. */
const listed = (header: string | string[] | undefined): string[] =>
  String(header ?? '')
    .split(',')
    .map(each => each.trim())

function lost(thrown: unknown): PosternError {
  if (thrown instanceof PosternError) return thrown
  const { message } = asPosternError(thrown, 'PSTN_CONTROL_LOST')
  return new PosternError('PSTN_CONTROL_LOST', message, { cause: thrown })
}
