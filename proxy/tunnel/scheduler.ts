// Whose bytes go next: a round robin by bytes over the streams that have some, in which a stream that had none for a
// round comes first. A small write, or a new stream's first, waits for no bulk; bulk shares what is left evenly. It is the
// scheduler of FQ-CoDel (RFC 8290, section 4.2), whose lists keep a stream from being new again at every write.

export type Flow = {
  readonly turn: Turn
  /** Whether it has something that may be sent now. */
  readonly sendable: boolean
}

/** A flow's place, the scheduler's alone. */
export class Turn {
  queued = false
  credit = 0
}

/** Bytes of one turn, and of one frame while several take turns. */
export const QUANTUM = 16 * 1024

/** Sends at most so many bytes (a frame's header may be beyond); returns how many. 0: nobody can send now. */
export type Send<F> = (flow: F, most: number) => number

export class Scheduler<F extends Flow> {
  readonly #fresh: F[] = []
  readonly #rounds: F[] = []

  get isEmpty(): boolean {
    return this.#fresh.length === 0 && this.#rounds.length === 0
  }

  /** To be called whenever a flow may have become sendable. */
  add(flow: F): void {
    const { turn } = flow
    if (turn.queued || !flow.sendable) return
    turn.queued = true
    turn.credit = QUANTUM
    this.#fresh.push(flow)
  }

  /** Has flows send until `room` is used up. */
  serve(room: number, send: Send<F>): void {
    let left = room
    while (left > 0) {
      const flow = this.#head()
      if (!flow) return
      const alone = this.#fresh.length + this.#rounds.length === 1
      const sent = send(flow, alone ? left : Math.min(left, QUANTUM))
      if (sent === 0) return
      left -= sent
      if (!alone) flow.turn.credit -= sent
      if (!flow.sendable || flow.turn.credit <= 0) this.#requeue(flow)
    }
  }

  /** Whose turn it is. Those that have nothing any more lose their place. */
  #head(): F | undefined {
    for (;;) {
      const list = this.#fresh.length > 0 ? this.#fresh : this.#rounds
      const [flow] = list
      if (!flow || flow.sendable) return flow
      list.shift()
      flow.turn.queued = false
    }
  }

  /** Behind the others; with nothing more to send it keeps that place for a round, unless nobody else is there. */
  #requeue(flow: F): void {
    const { turn } = flow
    if (this.#fresh[0] === flow) this.#fresh.shift()
    else this.#rounds.shift()
    if (turn.credit <= 0) turn.credit += QUANTUM
    turn.queued = flow.sendable || this.#fresh.length + this.#rounds.length > 0
    if (turn.queued) this.#rounds.push(flow)
  }
}
