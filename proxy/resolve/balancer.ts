// Which endpoint of a Service's port gets the next connection: of two random ones the one with fewer open streams, our own
// zone first, without those that fail to open. Endpoints are looked through when they or their health change, never
// for a connection; what is known of one outlives updates, and streams outlive the endpoint.
import type { Code } from '../../shared/errors.ts'
import { afterReport, type Health, IN, isProbeDue, probing, type Report } from './endpoint-health.ts'
import type { Route } from './route.ts'

export type Candidate = {
  /** Address, port and pod: who has it, not only where. */
  readonly key: string
  /** `<address>:<port>` */
  readonly endpoint: string
  readonly isNear: boolean
  readonly route: Route
}

export type Member = Candidate & {
  /** Streams of this sidecar that are open or being opened. */
  open: number
  health: Health
}

export type HealthEvent =
  | {
      readonly kind: 'ejected'
      readonly endpoint: string
      readonly code: Code
      readonly failures: number
      readonly forMs: number
    }
  /** In the choice again, or gone while it was out. */
  | { readonly kind: 'returned' | 'gone'; readonly endpoint: string }

export type BalancerOptions = {
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** In [0, 1). */
  readonly random: () => number
  readonly observe: (event: HealthEvent) => void
}

/** An endpoint of our zone has so many more streams open than one elsewhere before the other is taken. */
const NEAR_FACTOR = 2
const NEAR_EXTRA = 8

type Pool = { readonly near: readonly Member[]; readonly far: readonly Member[] }

export class Balancer {
  readonly #options: BalancerOptions
  #members = new Map<string, Member>()
  /** Out of the choice, or being probed. */
  readonly #out = new Set<Member>()
  #pool: Pool = { near: [], far: [] }
  #nextProbeAt = Infinity
  #sticky: { readonly key: string; readonly until: number } | undefined

  constructor(options: BalancerOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#members.size
  }

  /** Replaces the endpoints; those that stay keep their health and their streams. */
  update(candidates: readonly Candidate[]): void {
    const former = this.#members
    this.#members = new Map(
      candidates.map(candidate => {
        const known = former.get(candidate.key)
        return [
          candidate.key,
          known ? Object.assign(known, candidate) : { ...candidate, open: 0, health: IN },
        ]
      }),
    )
    const gone = [...this.#out].filter(({ key }) => !this.#members.has(key))
    for (const member of gone) this.#out.delete(member)
    this.#refresh()
    for (const { endpoint } of gone) this.#options.observe({ kind: 'gone', endpoint })
  }

  /**
   * The endpoint for a new connection, or for another try of one that could not be opened at `tried`. Whoever takes it
   * says with `report` how the opening went. Undefined: there is none, or none that was not tried.
   */
  take(tried: readonly Member[], stickyMs = 0): Member | undefined {
    const member = tried.length > 0 ? this.#untried(tried) : this.#first(stickyMs)
    if (member && stickyMs > 0) this.#sticky = { key: member.key, until: this.#options.now() + stickyMs }
    return member
  }

  report(member: Member, report: Report): void {
    const { now, random, observe } = this.#options
    const { endpoint, key, health: former } = member
    const at = now()
    const health = afterReport(former, report, at, random())
    member.health = health
    if (health === former || this.#members.get(key) !== member) return
    if (health.kind === 'out') this.#out.add(member)
    else this.#out.delete(member)
    this.#refresh()
    if (health.kind === 'in') observe({ kind: 'returned', endpoint })
    else if (health.kind === 'out' && report.kind === 'failed') {
      const { failures, until } = health
      observe({ kind: 'ejected', endpoint, code: report.code, failures, forMs: Math.round(until - at) })
    }
  }

  /** Where more than half are out, that says more about the network or the load than about each: all are used again. */
  #refresh(): void {
    const panic = this.#out.size * 2 > this.#members.size
    const near: Member[] = []
    const far: Member[] = []
    for (const member of this.#members.values()) {
      if (panic || member.health.kind === 'in') (member.isNear ? near : far).push(member)
    }
    this.#pool = { near, far }
    this.#nextProbeAt = Infinity
    for (const { health } of this.#out) {
      if (health.kind === 'out') this.#nextProbeAt = Math.min(this.#nextProbeAt, health.until)
    }
  }

  /** Affinity goes before everything else: nobody is taken from a healthy endpoint to probe another. */
  #first(stickyMs: number): Member | undefined {
    const stuck = stickyMs > 0 ? this.#stuck() : undefined
    return stuck ?? this.#due() ?? this.#pick()
  }

  /** One connection probes an endpoint whose time is over; if it fails, that connection is tried elsewhere. */
  #due(): Member | undefined {
    const now = this.#options.now()
    if (now < this.#nextProbeAt) return undefined
    for (const member of this.#out) {
      if (!isProbeDue(member.health, now)) continue
      member.health = probing(member.health)
      this.#refresh()
      return member
    }
    return undefined
  }

  /** Where the Service asks for affinity: the endpoint of the last connection, unless it is gone, out or long ago. */
  #stuck(): Member | undefined {
    if (!this.#sticky || this.#sticky.until < this.#options.now()) return undefined
    const member = this.#members.get(this.#sticky.key)
    return member?.health.kind === 'in' ? member : undefined
  }

  #pick(): Member | undefined {
    const { near, far } = this.#pool
    const one = this.#lighterOfTwo(near)
    if (!one || !isIn(one)) {
      const elsewhere = this.#lighterOfTwo(far)
      return elsewhere && (!one || isIn(elsewhere)) ? elsewhere : one
    }
    const other = far[this.#below(far.length)]
    return other && isIn(other) && one.open > NEAR_FACTOR * other.open + NEAR_EXTRA ? other : one
  }

  /** Power of two choices: nearly as even as asking all, and no herd runs to the one that looks idle. */
  #lighterOfTwo(members: readonly Member[]): Member | undefined {
    const { length } = members
    if (length === 0) return undefined
    const first = this.#below(length)
    const one = members[first]
    const other = length < 2 ? one : members[(first + 1 + this.#below(length - 1)) % length]
    if (!one || !other) return undefined
    if (isIn(one) !== isIn(other)) return isIn(one) ? one : other
    return other.open < one.open ? other : one
  }

  /** Seldom needed, so it may look through all: those that are in first, near ones before others. */
  #untried(tried: readonly Member[]): Member | undefined {
    const rest = [...this.#members.values()].filter(member => !tried.includes(member))
    const healthy = rest.filter(isIn)
    const near = healthy.filter(({ isNear }) => isNear)
    return this.#lighterOfTwo([near, healthy, rest].find(({ length }) => length > 0) ?? [])
  }

  #below(length: number): number {
    return Math.floor(this.#options.random() * length)
  }
}

const isIn = ({ health }: Member): boolean => health.kind === 'in'
