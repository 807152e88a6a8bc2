// A certificate that leads to no root of the trust bundle is worth nothing, however long it is valid: peers refuse it. That
// is so after a root was removed or a lost CA was replaced, and then only another certificate helps, at once.
import type { Live } from '../../shared/live.ts'
import { anchorsOf, chainLeadsTo } from '../../shared/tls/chain.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'

type Bundle = TrustBundle | undefined

/** Before there is a bundle nothing is known to be distrusted. */
export const isTrusted = (chain: string, bundle: Bundle): boolean =>
  bundle === undefined || chainLeadsTo(anchorsOf(bundle.roots), chain)

export type Distrust = Disposable & {
  /** Aborted once the chain is not trusted any more, perhaps from the beginning. */
  readonly signal: AbortSignal
}

export function watchDistrust(chain: string, trust: Live<Bundle>): Distrust {
  const distrusted = new AbortController()
  const check = (bundle: Bundle) => {
    if (!isTrusted(chain, bundle)) distrusted.abort()
  }
  const stop = trust.subscribe(check)
  check(trust.get())
  return { signal: distrusted.signal, [Symbol.dispose]: stop }
}
