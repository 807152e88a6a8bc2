// The bodies of reviews: bounded one by one, by caller and all together, since what is read is held until it has been answered,
// and anybody in the cluster network may send some.
import type { IncomingMessage } from 'node:http'
import { type Code, PosternError } from '../../shared/errors.ts'

/** An answer that is not an AdmissionReview: the API server shows its body to whoever asked. */
export class HttpRefusal extends PosternError {
  readonly status: number

  constructor(status: number, message: string, code: Code = 'PSTN_ADMISSION_MALFORMED') {
    super(code, message)
    this.status = status
  }
}

export type Memory = {
  /** Throws once more is held than may be. */
  hold(caller: string, bytes: number): void
  release(caller: string, bytes: number): void
}

export function createMemory(total: number, perCaller: number): Memory {
  const held = new Map<string, number>()
  let all = 0
  return {
    hold: (caller, bytes) => {
      const own = (held.get(caller) ?? 0) + bytes
      if (own > perCaller || all + bytes > total)
        throw new HttpRefusal(503, 'too many bytes of reviews at once', 'PSTN_LIMIT')
      held.set(caller, own)
      all += bytes
    },
    release: (caller, bytes) => {
      const left = (held.get(caller) ?? 0) - bytes
      if (left > 0) held.set(caller, left)
      else held.delete(caller)
      all -= bytes
    },
  }
}

export type Body = Disposable & { readonly bytes: Buffer }

/**
 * A body that is too large is read to its end if that is near, so that the sender is there to read the answer. What is held of
 * it counts until it is disposed of.
 */
export async function readBody(
  request: IncomingMessage,
  limit: number,
  memory: Memory,
  caller: string,
): Promise<Body> {
  const tooLarge = () => new HttpRefusal(413, `the body is larger than ${limit} bytes`)
  const patience = 4 * limit
  if (Number(request.headers['content-length'] ?? 0) > patience) throw tooLarge()
  const chunks: Buffer[] = []
  let [size, held] = [0, 0]
  const release = () => {
    memory.release(caller, held)
    held = 0
    chunks.length = 0
  }
  const keep = (chunk: Buffer) => {
    memory.hold(caller, chunk.length)
    held += chunk.length
    chunks.push(chunk)
  }
  const { promise, resolve, reject } = Promise.withResolvers<Body>()
  let over = false
  const refuse = (why: unknown) => {
    over = true
    release()
    reject(why)
  }
  // Not the request's async iterator: leaving it early would destroy the socket before the answer.
  request.on('data', (chunk: Buffer) => {
    if (over) return
    size += chunk.length
    if (size > patience) return refuse(tooLarge())
    try {
      if (size <= limit) keep(chunk)
    } catch (thrown) {
      refuse(thrown)
    }
  })
  request.on('end', () => {
    if (over) return
    if (size > limit) refuse(tooLarge())
    else {
      const bytes = Buffer.concat(chunks)
      // Or each body would be there twice until its review is answered.
      chunks.length = 0
      resolve({ bytes, [Symbol.dispose]: release })
    }
  })
  request.on('error', refuse)
  request.on('close', () => {
    if (!request.complete) refuse(new HttpRefusal(400, 'the caller went away'))
  })
  return promise
}
