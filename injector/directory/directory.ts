// The world with its lifetime: events go in one by one, what they changed comes out at most every 50 ms, so that a rollout
// of a thousand pods is twenty pushes and not a thousand.
import type { Clock } from '../../shared/clock.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { PolicyRecord } from './policies.ts'
import { type Resource, type ResourceEvent, reduce } from './reduce.ts'
import { type Changes, createWorld, type World, type WorldSettings } from './world.ts'

export type Directory = {
  readonly world: World
  feed<R extends Resource>(event: ResourceEvent<R>): void
  /** Calls `listener` with all changes since its last call. Returns how to stop. */
  subscribe(listener: (changes: Changes) => void): () => void
}

export type DirectoryOptions = {
  readonly settings: WorldSettings
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called at once with each policy ConfigMap that was read. */
  onPolicy?(record: PolicyRecord): void
  readonly delayMs?: number
}

const CHANGE_DELAY_MS = 50

export function createDirectory({
  settings,
  clock,
  log,
  signal,
  onPolicy,
  delayMs = CHANGE_DELAY_MS,
}: DirectoryOptions): Directory {
  const world = createWorld(settings)
  const listeners = new Set<(changes: Changes) => void>()
  let waiting: Changes | undefined

  const flush = () => {
    const changes = waiting
    waiting = undefined
    if (!changes) return
    for (const listener of [...listeners]) {
      try {
        listener(changes)
      } catch (thrown) {
        log.error(failure(thrown, 'PSTN_CONTROL_MALFORMED'), 'a change was not taken up')
      }
    }
  }
  return {
    world,
    feed: event => {
      const changes = reduce(world, event)
      for (const record of changes.policies) onPolicy?.(record)
      if (waiting) merge(waiting, changes)
      else if (isAny(changes)) {
        waiting = changes
        clock.sleep(delayMs, signal).then(flush, () => undefined)
      }
    },
    subscribe: listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}

const isAny = ({ addresses, pods, namespaces, everything }: Changes): boolean =>
  everything || addresses.size + pods.size + namespaces.size > 0

function merge(into: Changes, from: Changes): void {
  for (const key of ['addresses', 'pods', 'namespaces'] as const) {
    for (const value of from[key]) into[key].add(value)
  }
  into.everything ||= from.everything
}
