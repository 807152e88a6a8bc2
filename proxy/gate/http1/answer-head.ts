// One head of an application's answer, read for its boundaries alone: where the answer ends, and whether the connection
// becomes something else. It is forwarded as it came.
import { badAnswer, HttpRefusal } from '../refusal.ts'
import { contentLength, FieldReader, skip } from './fields.ts'
import { LIMITS } from './limits.ts'
import { CR, LF, TEXT } from './octets.ts'
import { INCOMPLETE } from './request-head.ts'

const STATUS_LINE_START = 12
const SP_OR_CR = [0x20, CR]
const EMPTY_LINE_BYTES = 2

export class AnswerHead {
  status = 0
  chunked = false
  length: number | undefined
  toWebSocket = false
  /** Where a line that says `close` goes: in the place of the one about the connection, or before the empty one. */
  closeStart = 0
  closeEnd = 0

  readonly #fields = new FieldReader()

  /** The index behind the head that begins at `start`, or INCOMPLETE. @throws HttpRefusal */
  read(bytes: Buffer, start: number): number {
    try {
      this.chunked = false
      this.length = undefined
      this.toWebSocket = false
      this.closeEnd = 0
      this.#fields.reset()
      const fieldsStart = this.#readStatusLine(bytes, start)
      return fieldsStart === INCOMPLETE ? INCOMPLETE : this.#readFields(bytes, start, fieldsStart)
    } catch (thrown) {
      if (thrown instanceof HttpRefusal && thrown.status !== 502) throw badAnswer(thrown.message)
      throw thrown
    }
  }

  #readStatusLine(bytes: Buffer, start: number): number {
    const begin = bytes.toString('latin1', start, Math.min(bytes.length, start + STATUS_LINE_START))
    if (begin.length < STATUS_LINE_START) {
      if (!/^H?T?T?P?\/?1?\.?[01]? ?[1-5]?[0-9]?$/.test(begin)) throw badAnswer('no status line')
      return INCOMPLETE
    }
    if (!/^HTTP\/1\.[01] [1-5][0-9][0-9]$/.test(begin)) throw badAnswer('no status line')
    this.status = Number(begin.slice(-3))
    const statusEnd = start + STATUS_LINE_START
    if (statusEnd < bytes.length && !SP_OR_CR.includes(bytes[statusEnd] ?? 0))
      throw badAnswer('the status is not three digits')
    const i = skip(TEXT, bytes, statusEnd)
    if (i - start > LIMITS.requestLineBytes) throw badAnswer('the status line is too long')
    if (i + 1 >= bytes.length) return INCOMPLETE
    if (bytes[i] !== CR || bytes[i + 1] !== LF) throw badAnswer('the status line does not end with CRLF')
    return i + 2
  }

  #readFields(bytes: Buffer, start: number, fieldsStart: number): number {
    const fields = this.#fields
    let at = fieldsStart
    for (;;) {
      const line = fields.next(bytes, at)
      const end = line === 'incomplete' ? bytes.length : fields.end
      if (end - start > LIMITS.answerHeadBytes)
        throw badAnswer(`the head is longer than ${LIMITS.answerHeadBytes} bytes`)
      if (line === 'incomplete') return INCOMPLETE
      if (line === 'end') return this.#conclude(end)
      if (fields.known !== undefined && !fields.lookalike) this.#take(bytes, fields)
      at = end
    }
  }

  #take(bytes: Buffer, fields: FieldReader): void {
    switch (fields.known) {
      case 'content-length':
        if (this.length !== undefined) throw badAnswer('more than one content-length')
        this.length = contentLength(fields.value(bytes))
        break
      case 'transfer-encoding':
        if (this.chunked || fields.value(bytes).toLowerCase() !== 'chunked')
          throw badAnswer('transfer-encoding is not chunked, once')
        this.chunked = true
        break
      case 'upgrade':
        this.toWebSocket = fields.value(bytes).toLowerCase() === 'websocket'
        break
      case 'connection':
        if (!/^(?:close|keep-alive)$/i.test(fields.value(bytes))) break
        this.closeStart = fields.start
        this.closeEnd = fields.end
        break
      default:
    }
  }

  #conclude(end: number): number {
    if (this.chunked && this.length !== undefined) throw badAnswer('content-length and transfer-encoding')
    if (this.closeEnd === 0) this.closeStart = this.closeEnd = end - EMPTY_LINE_BYTES
    return end
  }
}
