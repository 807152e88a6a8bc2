// Keeps every replica on the CA that the Secret holds, and, on the leader, the Secret there and the issuer young. Polling
// once a minute is enough: an issuer is replaced ten days before it expires, and the old one stays valid beside the new.
// The root never changes in a running process: another one in the Secret would end every connection of the mesh.
import type { Clock } from '../../shared/clock.ts'
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { CA_SECRET } from '../../shared/names.ts'
import { type Authority, openAuthority } from './authority.ts'
import {
  type CaPlace,
  issuerIsDue,
  readCa,
  readOrCreateCa,
  renewIssuer,
  restoreCa,
  type StoredCa,
} from './store.ts'

const POLL_MS = 60_000

export type AuthorityKeeper = {
  readonly authority: Live<Authority>
  /** Follows the Secret until aborted. Every replica runs it. */
  follow(signal: AbortSignal): Promise<void>
  /** Restores the Secret and renews the issuer when due until aborted. Only the leader runs it. */
  renew(signal: AbortSignal): Promise<void>
}

export type KeeperContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly registry: Registry
}

/** @throws PosternError PSTN_CONFIG_INVALID if the Secret holds an unusable CA, PSTN_CA_REFUSED; KubeError. */
export async function loadOrCreateAuthority(
  { kube, clock, log, registry }: KeeperContext,
  place: CaPlace,
  signal: AbortSignal,
): Promise<AuthorityKeeper> {
  let current = await readOrCreateCa(kube, place, clock.now(), signal)
  const authority = live(await openAuthority(current.material))
  const refused = registry.gauge(
    'postern_ca_refused',
    '1 while the Secret postern-ca is gone, unusable or holds another root than the one that this replica goes on with.',
  )
  refused.set({}, 0)

  const adopt = async (next: StoredCa) => {
    if (next.resourceVersion !== current.resourceVersion) {
      const opened = await openAuthority(next.material)
      const { roots } = authority.get()
      if (!opened.roots.every(root => roots.includes(root))) throw refusal(place, 'holds another root')
      current = next
      authority.set(opened)
      log.info({ issuer: opened.issuer.serial, notAfter: opened.issuer.notAfter }, 'CA issuer in use')
    }
    refused.set({}, 0)
  }
  const read = () => readCa(kube, place, clock.now(), signal)
  const reload = () => read().catch(missing(() => Promise.reject(refusal(place, 'is gone'))))
  const restore = () => {
    log.error({ code: 'PSTN_CA_REFUSED' }, 'CA Secret restored: it was gone')
    return restoreCa(kube, place, current, clock.now(), signal)
  }
  const keep = async () => {
    await adopt(await read().catch(missing(restore)))
    if (!issuerIsDue(current.material, clock.now())) return
    await adopt(await renewIssuer(kube, place, current, clock.now(), signal))
  }

  const inTurn = oneAtATime()
  const everyMinute = async (step: () => Promise<void>, stop: AbortSignal) => {
    while (!stop.aborted) {
      // A failure keeps what is in use; the next minute tries again.
      await inTurn(step).catch(error => {
        if (error instanceof PosternError) refused.set({}, 1)
        log.error(failure(error, 'PSTN_API_UNAVAILABLE'), 'CA not refreshed')
      })
      await clock.sleep(POLL_MS, stop).catch(() => undefined)
    }
  }
  return {
    authority,
    follow: stop => everyMinute(async () => adopt(await reload()), stop),
    renew: stop => everyMinute(keep, stop),
  }
}

const refusal = ({ namespace }: CaPlace, what: string): PosternError =>
  new PosternError('PSTN_CA_REFUSED', `Secret ${namespace}/${CA_SECRET} ${what}; the root in force stays`)

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
