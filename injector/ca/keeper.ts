// Keeps every replica on the CA that the Secret holds, and, on the leader, the issuer young. Polling once a minute is
// enough: an issuer is replaced ten days before it expires, and the old one stays valid beside the new.
import type { Clock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { type Authority, openAuthority } from './authority.ts'
import { type CaPlace, issuerIsDue, readCa, readOrCreateCa, renewIssuer, type StoredCa } from './store.ts'

const POLL_MS = 60_000

export type AuthorityKeeper = {
  readonly authority: Live<Authority>
  /** Follows the Secret until aborted. Every replica runs it. */
  follow(signal: AbortSignal): Promise<void>
  /** Renews the issuer when it is due until aborted. Only the leader runs it. */
  renew(signal: AbortSignal): Promise<void>
}

export type KeeperContext = { readonly kube: Kube; readonly clock: Clock; readonly log: Logger }

/** @throws PosternError PSTN_CONFIG_INVALID if the Secret holds an unusable CA; KubeError. */
export async function loadOrCreateAuthority(
  { kube, clock, log }: KeeperContext,
  place: CaPlace,
  signal: AbortSignal,
): Promise<AuthorityKeeper> {
  let current = await readOrCreateCa(kube, place, clock.now(), signal)
  const authority = live(await openAuthority(current.material))

  const adopt = async (next: StoredCa) => {
    if (next.resourceVersion === current.resourceVersion) return
    const opened = await openAuthority(next.material)
    current = next
    authority.set(opened)
    log.info({ issuer: opened.issuer.serial, notAfter: opened.issuer.notAfter }, 'CA issuer in use')
  }
  const reload = async () => adopt(await readCa(kube, place, clock.now(), signal))
  const renewIfDue = async () => {
    if (!issuerIsDue(current.material, clock.now())) return
    await adopt(await renewIssuer(kube, place, current, clock.now(), signal))
  }

  return {
    authority,
    follow: stop => everyMinute(reload, { clock, log, signal: stop }),
    renew: stop => everyMinute(renewIfDue, { clock, log, signal: stop }),
  }
}

type Loop = { readonly clock: Clock; readonly log: Logger; readonly signal: AbortSignal }

/** A failure keeps what is in use; the next minute tries again. */
async function everyMinute(step: () => Promise<void>, { clock, log, signal }: Loop): Promise<void> {
  while (!signal.aborted) {
    await step().catch(error => log.error(failure(error, 'PSTN_API_UNAVAILABLE'), 'CA not refreshed'))
    await clock.sleep(POLL_MS, signal).catch(() => undefined)
  }
}
