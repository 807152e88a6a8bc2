// Keeps every replica on the CA that the Secret holds, and, on the leader, the Secret there and the issuer young. A watch
// tells of changes within a moment; polling once a minute is enough for the rest: an issuer is replaced ten days before it
// expires, and the old one stays valid beside the new. Another root is taken up only where the Secret's own record says
// how it came (lineage.ts): any other would end every connection of the mesh.
import type { Clock } from '../../shared/clock.ts'
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { CA_SECRET } from '../../shared/names.ts'
import { watchList } from '../kube/watch.ts'
import { type Authority, type CaMaterial, openAuthority } from './authority.ts'
import { revived, unexplained } from './lineage.ts'
import { caMetrics } from './metrics.ts'
import { recordOf } from './rotation.ts'
import {
  type CaPlace,
  issuerIsDue,
  readCa,
  readOrCreateCa,
  renewIssuer,
  restoreCa,
  type StoredCa,
  swapCa,
} from './store.ts'

const POLL_MS = 60_000
const RETRY_MS = 1_000
const DAY_MS = 24 * 3_600_000

export type AuthorityKeeper = {
  readonly authority: Live<Authority>
  /** The Secret as it was last read. */
  readonly stored: Live<StoredCa>
  /** Follows the Secret until aborted. Every replica runs it. */
  follow(signal: AbortSignal): Promise<void>
  /**
   * Reads the Secret once, for as long as the API server is away: whoever comes to lead may be behind the one before, and what
   * he signed or published then would be of a root that is gone. A Secret that is refused changes nothing, here too.
   */
  catchUp(signal: AbortSignal): Promise<void>
  /** Restores the Secret and renews the issuer when due until aborted. Only the leader runs it. */
  renew(signal: AbortSignal): Promise<void>
  /**
   * Puts `material` in the place of what was read as `before`, without the annotations of `answered` requests. False if
   * somebody was faster: `stored` then holds what they wrote.
   */
  swap(
    before: StoredCa,
    material: CaMaterial,
    answered: readonly string[],
    signal: AbortSignal,
  ): Promise<boolean>
}

export type KeeperContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly registry: Registry
  /** The longest that a leaf may live: an issuer that is about to end must not cut it short. */
  readonly longestLeafMs?: number
}

/** @throws PosternError PSTN_CONFIG_INVALID if the Secret holds an unusable CA, PSTN_CA_REFUSED; KubeError. */
export async function loadOrCreateAuthority(
  { kube, clock, log, registry, longestLeafMs = DAY_MS }: KeeperContext,
  place: CaPlace,
  signal: AbortSignal,
): Promise<AuthorityKeeper> {
  const stored = live(await readOrCreateCa(kube, place, clock.now(), signal))
  const authority = live(await openAuthority(stored.get().material))
  const refused = caMetrics(registry, stored)

  const adopt = async (next: StoredCa) => {
    if (next.resourceVersion !== stored.get().resourceVersion) {
      const opened = await openAuthority(next.material)
      const present = authority.get()
      const [missing] = unexplained(present.roots, next.material)
      if (missing)
        throw refusal(place, `holds another root: ${missing.slice(0, 12)} is gone without a record`)
      const [back] = revived(recordOf(stored.get().material).former, next.material)
      if (back) throw refusal(place, `holds the root ${back.slice(0, 12)} again, which was revoked`)
      const isNew = !isSame(present, opened)
      try {
        stored.set(next)
      } finally {
        // Whatever becomes of one who was told: what signs and what is stored are never two CAs.
        if (isNew) authority.set(opened)
      }
      if (isNew) {
        const { issuer, roots } = opened
        log.info({ issuer: issuer.serial, notAfter: issuer.notAfter, roots: roots.length }, 'CA in use')
      }
    }
    refused.set({}, 0)
  }
  const read = () => readCa(kube, place, clock.now(), signal)
  const reload = () => read().catch(missing(() => Promise.reject(refusal(place, 'is gone'))))
  const restore = () => {
    log.error({ code: 'PSTN_CA_REFUSED' }, 'CA Secret restored: it was gone')
    return restoreCa(kube, place, stored.get(), clock.now(), signal)
  }
  const keep = async () => {
    await adopt(await read().catch(missing(restore)))
    const present = stored.get()
    if (!issuerIsDue(present.material, clock.now(), longestLeafMs)) return
    await adopt(await renewIssuer(kube, place, present, clock.now(), signal))
  }

  const inTurn = oneAtATime()
  let wake = new AbortController()
  const everyMinute = async (step: () => Promise<void>, stop: AbortSignal) => {
    while (!stop.aborted) {
      const woken = wake.signal
      // A failure keeps what is in use; the next minute tries again.
      await inTurn(step).catch(error => {
        if (error instanceof PosternError) refused.set({}, 1)
        log.error(failure(error, 'PSTN_API_UNAVAILABLE'), 'CA not refreshed')
      })
      await clock.sleep(POLL_MS, AbortSignal.any([stop, woken])).catch(() => undefined)
    }
  }
  /** What changed is read anew: one way in, and one order. */
  const watch = (stop: AbortSignal) => {
    const changed = () => {
      wake.abort()
      wake = new AbortController()
    }
    const path = `/api/v1/namespaces/${place.namespace}/secrets`
    const query = { fieldSelector: `metadata.name=${CA_SECRET}` }
    return watchList(kube, path, query, { onList: changed, onEvent: changed }, { signal: stop, log, clock })
  }
  return {
    authority,
    stored,
    follow: async stop => {
      await Promise.all([everyMinute(async () => adopt(await reload()), stop), watch(stop)])
    },
    catchUp: async stop => {
      while (!stop.aborted) {
        const outcome = await inTurn(async () => adopt(await reload())).catch((thrown: unknown) => thrown)
        if (outcome === undefined || outcome instanceof PosternError) return
        log.warn(failure(outcome, 'PSTN_API_UNAVAILABLE'), 'CA not read: nothing is signed or published yet')
        await clock.sleep(RETRY_MS, stop).catch(() => undefined)
      }
    },
    renew: stop => everyMinute(keep, stop),
    swap: async (before, material, answered, stop) => {
      let swapped: StoredCa | undefined
      await inTurn(async () => {
        swapped = await swapCa(kube, place, before, material, answered, clock.now(), stop)
        await adopt(swapped ?? (await reload()))
      })
      return swapped !== undefined
    },
  }
}

const isSame = (a: Authority, b: Authority): boolean =>
  a.issuer.fingerprint256 === b.issuer.fingerprint256 && a.roots.join() === b.roots.join()

const refusal = ({ namespace }: CaPlace, what: string): PosternError =>
  new PosternError('PSTN_CA_REFUSED', `Secret ${namespace}/${CA_SECRET} ${what}; the roots in force stay`)

const missing =
  <T>(otherwise: () => Promise<T>) =>
  (error: unknown): Promise<T> =>
    isKubeError(error, 404) ? otherwise() : Promise.reject(error)

/** What was read before a renewal must not be adopted after it. */
function oneAtATime(): (step: () => Promise<void>) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve()
  return step => {
    const next = last.then(step)
    last = next.catch(() => undefined)
    return next
  }
}
