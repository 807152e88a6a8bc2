// Requests told apart in bytes that the gate let pass, by the gate's own readers for the boundaries and by naive string work
// for the rest: what is compared with other implementations.
import { BodyReader } from '../../proxy/gate/http1/body.ts'
import { INCOMPLETE, RequestHead } from '../../proxy/gate/http1/request-head.ts'

export type Message = {
  readonly method: string
  readonly target: string
  /** Names in lower case, values without the blanks around them, in order. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** Decoded. */
  readonly body: string
  readonly trailers: readonly (readonly [name: string, value: string])[]
  /** False: the body has not come whole. */
  readonly complete: boolean
  /** The connection carries no request behind it. */
  readonly last: boolean
  readonly raw: Buffer
}

/** @throws HttpRefusal where the bytes are none that a gate would pass. */
export function messagesIn(bytes: Buffer): Message[] {
  const messages: Message[] = []
  const head = new RequestHead()
  for (let at = 0; at < bytes.length; ) {
    const headEnd = head.read(bytes, at)
    if (headEnd === INCOMPLETE) throw new Error(`half a head was passed on: ${bytes.toString('latin1', at)}`)
    const { chunked, length = 0, last } = head
    const reader = new BodyReader()
    reader.begin(chunked ? { kind: 'chunked' } : { kind: 'length', bytes: length })
    const end = reader.consume(bytes, headEnd)
    const raw = bytes.subarray(at, end)
    const coded = bytes.toString('latin1', headEnd, end)
    const [line = '', ...lines] = bytes.toString('latin1', at, headEnd - 4).split('\r\n')
    const [method = '', target = ''] = line.split(' ')
    const { body, trailers } = chunked ? decodeChunks(coded) : { body: coded, trailers: [] }
    const complete = reader.done
    messages.push({ method, target, fields: fieldsOf(lines), body, trailers, complete, last, raw })
    at = end
  }
  return messages
}

export const showMessage = ({ method, target, body }: Message): string =>
  `${method} ${target.replace(/\?.*$/, '')}${body === '' ? '' : ` ${body}`}`

/** As far as the chunks have come. */
function decodeChunks(coded: string): Pick<Message, 'body' | 'trailers'> {
  let body = ''
  let rest = coded
  for (;;) {
    const [, line = '', behind = ''] = /^([^\r]*)\r\n(.*)$/s.exec(rest) ?? []
    const size = Number.parseInt(line, 16)
    if (!(size > 0)) return { body, trailers: fieldsOf(behind.split('\r\n').filter(text => text !== '')) }
    body += behind.slice(0, size)
    rest = behind.slice(size + 2)
  }
}

export function fieldsOf(lines: readonly string[]): Message['fields'] {
  return lines.map(line => {
    const colon = line.indexOf(':')
    return [
      line.slice(0, colon).toLowerCase(),
      line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, ''),
    ] as const
  })
}
