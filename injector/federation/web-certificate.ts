// The web certificate of our bundle endpoint: files of a Secret of type kubernetes.io/tls that somebody may mount. Looked at
// again and again, since the kubelet writes them anew when the Secret changes; a pair that cannot be used changes nothing.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { type Live, live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { ServingCertificate } from '../webhook/server.ts'

const RECHECK_MS = 5_000

export type WebCertificateContext = {
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Undefined until there is one; one that was taken away stays in use. */
export async function webCertificate(
  directory: string,
  { clock, log, signal }: WebCertificateContext,
): Promise<Live<ServingCertificate | undefined>> {
  const certificate = live<ServingCertificate | undefined>(undefined)
  let said = ''
  const look = async () => {
    try {
      const next = await readPair(directory)
      if (next && JSON.stringify(next) !== JSON.stringify(certificate.get())) {
        certificate.set(next)
        const { validTo, subjectAltName } = new X509Certificate(next.chain)
        log.info({ notAfter: validTo, names: subjectAltName }, 'bundle endpoint: certificate in use')
      }
      if (!next && said === '')
        log.info({ directory }, 'bundle endpoint not served: no Secret postern-bundle-endpoint is mounted')
      said = next ? '' : 'absent'
    } catch (thrown) {
      const told = failure(thrown, 'PSTN_CONFIG_INVALID')
      if (told.error !== said) log.error(told, 'bundle endpoint: certificate not taken')
      said = told.error
    }
  }
  const follow = async () => {
    while (!signal.aborted) {
      await clock.sleep(RECHECK_MS, signal).catch(() => undefined)
      if (!signal.aborted) await look()
    }
  }
  await look()
  void follow()
  return certificate
}

/** Undefined if neither file is there. @throws PosternError PSTN_CONFIG_INVALID */
async function readPair(directory: string): Promise<ServingCertificate | undefined> {
  const [chain, key] = await Promise.all(['tls.crt', 'tls.key'].map(name => optional(join(directory, name))))
  if (chain === undefined && key === undefined) return undefined
  try {
    const fits = new X509Certificate(chain ?? '').checkPrivateKey(createPrivateKey(key ?? ''))
    if (fits) return usable({ chain: chain ?? '', key: key ?? '' })
  } catch (cause) {
    const { message } = asPosternError(cause, 'PSTN_CONFIG_INVALID')
    const why = `${directory}: tls.crt and tls.key cannot be used: ${message}`
    throw new PosternError('PSTN_CONFIG_INVALID', why, { cause })
  }
  throw new PosternError('PSTN_CONFIG_INVALID', `${directory}: tls.key is not the key of tls.crt`)
}

/** A key that is too short, or what is no certificate further down, is found by OpenSSL alone: no listener should. */
function usable(pair: ServingCertificate): ServingCertificate {
  createSecureContext({ cert: pair.chain, key: pair.key })
  return pair
}

const optional = (path: string): Promise<string | undefined> =>
  readFile(path, 'utf8').catch(thrown => {
    if (Object(thrown).code === 'ENOENT') return undefined
    throw thrown
  })
