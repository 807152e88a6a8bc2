// The listener's TLS contexts: one a trust domain, never a union of roots. Peers of foreign domains say by SNI whose they are, and
// are verified with those roots alone; what SNI says is a choice of roots and proves nothing. Who says nothing, our own
// name or one that is not known gets our own context; `identify` refuses the last.
import { createSecureContext, type SecureContext, type TLSSocket, type TlsOptions } from 'node:tls'
import { asPosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { PartnerTls, TunnelTls } from './interface.ts'

type SniCallback = NonNullable<TlsOptions['SNICallback']>

export function chooseByServerName(tls: Live<TunnelTls | undefined>): SniCallback {
  const contexts = new WeakMap<PartnerTls, SecureContext>()
  return (servername, choose) => {
    const partner = tls.get()?.partners.get(servername)
    if (!partner) return choose(null)
    try {
      choose(
        null,
        contexts.getOrInsertComputed(partner, ({ context }) => createSecureContext(context)),
      )
    } catch (thrown) {
      choose(asPosternError(thrown, 'PSTN_TLS_FAILED'))
    }
  }
}

/** What the client of a finished handshake said. A handshake may have outlived a change of partners: identify looks anew. */
export function serverNameOf({ servername }: TLSSocket): string | undefined {
  return servername || undefined
}
