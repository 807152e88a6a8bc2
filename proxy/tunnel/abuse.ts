// Frames that cost their sender nothing and us work: each kind may come in bursts, and no faster than its rate for ever.
// Beyond it the connection ends with ENHANCE_YOUR_CALM (RFC 9113, section 10.5).

/** Every limit of the tunnel that can be reached, as the metric postern_limits_reached_total names them. */
export type Limit =
  | 'tunnel_connections'
  | 'tunnel_handshakes'
  | 'tunnel_streams'
  | 'tunnel_resets'
  | 'tunnel_pings'
  | 'tunnel_settings'
  | 'tunnel_empty_frames'
  | 'tunnel_useless_frames'
  | 'tunnel_headers'
  | 'tunnel_answers'
  | 'tunnel_unsent'
  | 'tunnel_held'

export type Rate = { readonly burst: number; readonly perSecond: number }

/** A bucket of tokens; time is an argument, in milliseconds. */
export class Allowed {
  readonly #rate: Rate
  #tokens: number
  #filledAt: number

  constructor(rate: Rate, now: number) {
    this.#rate = rate
    this.#tokens = rate.burst
    this.#filledAt = now
  }

  /** False: too many. */
  take(now: number): boolean {
    const { burst, perSecond } = this.#rate
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) / 1000) * perSecond)
    this.#filledAt = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
