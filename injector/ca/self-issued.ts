// Certificates that an injector replica gives itself, in memory: the webhook's serving certificate and the SVID it
// presents on the control stream. No Secret holds them and no replica shares them.
import { generateKeyPairSync } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { type Live, live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Authority, LeafRequest } from './authority.ts'

export type SelfIssued = {
  /** PEM, PKCS#8. Never logged. */
  readonly key: string
  /** PEM: the leaf, then the issuer. */
  readonly chain: string
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
}

export type SelfIssuedNames = Pick<LeafRequest, 'commonName' | 'dnsNames' | 'uri'>

const LIFETIME_SECONDS = 24 * 3600
const RECHECK_MS = 5 * 60_000

export type SelfIssuedContext = {
  readonly clock: Clock
  readonly log: Logger
  /** Ends the renewal. */
  readonly signal: AbortSignal
}

/** The first certificate, renewed with a new key at half its life and whenever the authority changes. */
export async function selfIssued(
  authority: Live<Authority>,
  names: SelfIssuedNames,
  { clock, log, signal }: SelfIssuedContext,
): Promise<Live<SelfIssued>> {
  const current = live(await issue(authority.get(), names, clock.now()))
  let halfLife = halfway(current.get(), clock.now())
  const renew = async () => {
    const issuer = authority.get()
    try {
      const issued = await issue(issuer, names, clock.now())
      // The authority changed meanwhile, and the renewal that this began may have been faster.
      if (issuer !== authority.get()) return
      current.set(issued)
      halfLife = halfway(current.get(), clock.now())
    } catch (error) {
      log.error(failure(error, 'PSTN_CSR_FAILED'), 'own certificate not renewed')
    }
  }
  const watchTime = async () => {
    while (!signal.aborted) {
      if (clock.now() >= halfLife) await renew()
      await clock.sleep(RECHECK_MS, signal).catch(() => undefined)
    }
  }
  const stop = authority.subscribe(() => void renew())
  void watchTime().finally(stop)
  return current
}

const halfway = ({ notAfter }: SelfIssued, now: number): number => now + (notAfter.getTime() - now) / 2

async function issue(authority: Authority, names: SelfIssuedNames, now: number): Promise<SelfIssued> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicKeySpki = publicKey.export({ format: 'der', type: 'spki' })
  const leaf = await authority.issue({ ...names, publicKeySpki, lifetimeSeconds: LIFETIME_SECONDS, now })
  return { key: String(privateKey.export({ format: 'pem', type: 'pkcs8' })), ...leaf }
}
