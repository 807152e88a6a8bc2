// Whose review is looked at next. Reading one takes up to a second or two, legally, and nothing else happens in this process
// meanwhile: so it is one at a time, the event loop has as long a time for control streams and probes in between, and the
// caller that has cost least goes first. Callers are not authenticated; the API server is one of them, and pays for itself alone.
// Where it is known by its address it goes before all others, since many strangers have cost little each; but what it sends may be
// anybody's, and another API server unknown: after a turn of its own that was dear, one of the others has a turn.
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'

export type Turns = {
  /** Starts the work when it is its turn. */
  take<T>(whose: Whose, work: () => Promise<T>): Promise<T>
}

export type Whose = {
  readonly caller: string
  /** Of what the caller sends, what shares one account within its own. */
  readonly group: string
  /** Before all that are not. */
  readonly first: boolean
}

/** What was spent this long ago counts half. */
const HALF_LIFE_MS = 5_000
/** Less is not worth a rest. */
const CHEAP_MS = 2
const LONGEST_REST_MS = 1_000
/** Callers and groups that nothing is remembered of once they have cost this little. */
const FORGOTTEN_MS = 1

type Waiting = Whose & { readonly start: () => void }

export function createTurns(now: () => number = () => performance.now()): Turns {
  const waiting: Waiting[] = []
  const callers = createAccounts()
  const groups = createAccounts()
  let running = false
  let owed = false

  /** Whoever goes first, unless the others are owed a turn; then by what the caller has cost, then by what the group has, then by who came first. */
  const nextInLine = (at: number): Waiting | undefined => {
    const ranks = waiting.map(one => [
      Number(one.first === owed),
      callers.of(one.caller, at),
      groups.of(groupOf(one), at),
    ])
    let best = 0
    for (const [index, rank] of ranks.entries()) if (isBelow(rank, ranks[best] ?? [])) best = index
    const [next] = waiting.splice(best, 1)
    return next
  }
  const run = async () => {
    running = true
    for (let next = nextInLine(now()); next; next = nextInLine(now())) {
      const began = now()
      next.start()
      const at = now()
      const took = at - began
      callers.charge(next.caller, took, at)
      groups.charge(groupOf(next), took, at)
      owed = next.first && took > CHEAP_MS
      if (took > CHEAP_MS) await delay(Math.min(took, LONGEST_REST_MS))
      else await turn()
    }
    running = false
  }
  return {
    take: <T>(whose: Whose, work: () => Promise<T>) => {
      const { promise, resolve, reject } = Promise.withResolvers<T>()
      waiting.push({ ...whose, start: () => void work().then(resolve, reject) })
      if (!running) void run()
      return promise
    },
  }
}

function isBelow(rank: readonly number[], other: readonly number[]): boolean {
  const difference = rank.map((value, index) => value - (other[index] ?? 0)).find(value => value !== 0)
  return difference !== undefined && difference < 0
}

const groupOf = ({ caller, group }: Whose): string => `${caller} ${group}`

/** Milliseconds by name, less and less as time passes. */
function createAccounts() {
  const accounts = new Map<string, { readonly ms: number; readonly since: number }>()
  const of = (name: string, at: number): number => {
    const found = accounts.get(name)
    return found ? found.ms * 0.5 ** ((at - found.since) / HALF_LIFE_MS) : 0
  }
  return {
    of,
    charge: (name: string, ms: number, at: number) => {
      accounts.set(name, { ms: of(name, at) + ms, since: at })
      for (const other of accounts.keys()) if (of(other, at) < FORGOTTEN_MS) accounts.delete(other)
    },
  }
}
