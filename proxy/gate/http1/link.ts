// What the two sides of the gate may do to the connection that they share.
import type { HttpRefusal } from '../refusal.ts'

export type Link = {
  toApplication(bytes: Buffer): void
  toCaller(bytes: Buffer): void
  /** In the application's place: a caller that does not read it is not read from. */
  answer(bytes: Buffer): void
  /** It is not read from at present: what is missing of it may be waiting. */
  readonly isCallerPaused: boolean
  /** The caller has ended its direction. */
  endApplication(): void
  endCaller(): void
  /** The caller gets an orderly end behind what was written; whatever it still sends is thrown away. */
  finish(): void
  /** As `finish`, behind an answer of ours, while the application is in the middle of something: it is reset. */
  answerAndFinish(refusal: HttpRefusal): void
  /** A message was cut off: so are both sides. */
  cutOff(): void
  /** Both sides are reset because of us. */
  abort(reason: unknown): void
}
