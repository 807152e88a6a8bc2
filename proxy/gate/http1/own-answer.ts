// What the gate answers by itself: the code in the header and the body, and nothing about the policy or the pod.
import { CHALLENGE, type HttpRefusal } from '../refusal.ts'

const REASONS: { readonly [S in HttpRefusal['status']]: string } = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  408: 'Request Timeout',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  505: 'HTTP Version Not Supported',
}

export type AnswerForm = {
  /** The request was a HEAD: the same head, without the body. */
  readonly withoutBody: boolean
  readonly close: boolean
}

export function ownAnswer({ status, code }: HttpRefusal, { withoutBody, close }: AnswerForm): Buffer {
  const body = `${code}\n`
  const lines = [
    `HTTP/1.1 ${status} ${REASONS[status]}`,
    `postern-code: ${code}`,
    'content-type: text/plain',
    `content-length: ${body.length}`,
    ...(status === 401 ? [`www-authenticate: ${CHALLENGE}`] : []),
    ...(close ? ['connection: close'] : []),
    '',
    withoutBody ? '' : body,
  ]
  return Buffer.from(lines.join('\r\n'), 'latin1')
}
