// The CA at start-up: an API server that is away is waited for, a Secret that cannot be used is not.
import { backoffMs } from '../../shared/backoff.ts'
import { PosternError } from '../../shared/errors.ts'
import { failure } from '../../shared/log.ts'
import { type AuthorityKeeper, type KeeperContext, loadOrCreateAuthority } from './keeper.ts'
import type { CaPlace } from './store.ts'

const RETRY = { baseMs: 500, capMs: 10_000 }

/** @throws PosternError PSTN_CONFIG_INVALID if the Secret holds an unusable CA; the signal's reason. */
export async function openCa(
  context: KeeperContext & { readonly random: () => number },
  place: CaPlace,
  signal: AbortSignal,
): Promise<AuthorityKeeper> {
  const { clock, log, random } = context
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await loadOrCreateAuthority(context, place, signal)
    } catch (thrown) {
      signal.throwIfAborted()
      if (thrown instanceof PosternError && thrown.code === 'PSTN_CONFIG_INVALID') throw thrown
      log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'no CA yet')
      await clock.sleep(backoffMs(RETRY, attempt, random()), signal)
    }
  }
}
