// Where a body ends, without touching it: the bytes pass as they came. RFC 9112, section 6.3.
import { ChunkedReader } from './chunked.ts'

export type Framing =
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'until-close' }

export class BodyReader {
  /** What is left of a body of known length; Infinity until the connection closes. */
  #left = 0
  #chunked: ChunkedReader | undefined

  begin(framing: Framing, isForbiddenTrailer?: (name: string) => boolean): void {
    this.#chunked = framing.kind === 'chunked' ? new ChunkedReader(isForbiddenTrailer) : undefined
    this.#left = framing.kind === 'length' ? framing.bytes : framing.kind === 'chunked' ? 0 : Infinity
  }

  get done(): boolean {
    return this.#chunked === undefined ? this.#left === 0 : this.#chunked.done
  }

  get endsWithConnection(): boolean {
    return this.#left === Infinity
  }

  /** The index behind the part of `bytes` from `at` on that belongs to the body. @throws HttpRefusal */
  consume(bytes: Buffer, at: number): number {
    if (this.#chunked !== undefined) return this.#chunked.consume(bytes, at)
    const taken = Math.min(this.#left, bytes.length - at)
    this.#left -= taken
    return at + taken
  }
}
