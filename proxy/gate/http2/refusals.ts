// Errors of HTTP/2 as refusals of the gate, with their code for logs and metrics.
import { asPosternError } from '../../../shared/errors.ts'
import { ErrorCode, Http2Error } from '../../http2/errors.ts'
import { badAnswer, HttpRefusal, malformed, overLimit } from '../refusal.ts'

/** What a caller did wrong. */
export function refusalOf(thrown: unknown): HttpRefusal {
  if (thrown instanceof HttpRefusal) return thrown
  if (thrown instanceof Http2Error)
    return thrown.code === ErrorCode.ENHANCE_YOUR_CALM ? overLimit(thrown.message) : malformed(thrown.message)
  const { code, message } = asPosternError(thrown, 'PSTN_HTTP_MALFORMED')
  return new HttpRefusal(code === 'PSTN_NOT_READY' ? 503 : 400, code, message, { cause: thrown })
}

/** What an application did wrong. */
export function badAnswerOf(thrown: unknown): HttpRefusal {
  return thrown instanceof HttpRefusal
    ? thrown
    : badAnswer(thrown instanceof Error ? thrown.message : String(thrown))
}

/** The stream at fault; errors of the whole connection, and what is no error of HTTP/2, are thrown on. */
export function streamErrorOf(thrown: unknown): Http2Error {
  if (thrown instanceof Http2Error && thrown.streamId !== undefined) return thrown
  throw thrown
}
