// Whom the mesh trusts where another signer than ours signs: its roots, in a file that the operator mounts. Looked at again and
// again, since the kubelet writes it anew when its ConfigMap changes; what cannot be used never replaces what is in force.
import { readFile } from 'node:fs/promises'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { type Live, live } from '../../shared/live.ts'
import type { Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { readRoots } from '../../shared/x509/root-certificates.ts'

export type OutsideRootsContext = {
  readonly clock: Clock
  readonly log: Logger
  readonly registry: Registry
  /** Ends the watching. */
  readonly signal: AbortSignal
}

const RECHECK_MS = 5_000

/** None without a file. @throws PosternError PSTN_CONFIG_INVALID if it cannot be used now. */
export async function outsideRoots(
  file: string | undefined,
  { clock, log, registry, signal }: OutsideRootsContext,
): Promise<Live<readonly string[]>> {
  const refused = registry.gauge(
    'postern_trust_roots_refused',
    '1 while the file with the roots of another signer (trustRootsFile) cannot be used; those of before stay in force.',
  )
  refused.set({}, 0)
  if (file === undefined) return live([])
  const read = async () => readRoots(await readFile(file, 'utf8'))
  const roots = live(
    await read().catch(thrown => Promise.reject(unusable(file, thrown, 'PSTN_CONFIG_INVALID'))),
  )
  let said = ''

  const look = async () => {
    try {
      const next = await read()
      refused.set({}, 0)
      said = ''
      if (next.join('') === roots.get().join('')) return
      roots.set(next)
      log.info({ roots: next.length, file }, 'roots of the other signer changed')
    } catch (thrown) {
      refused.set({}, 1)
      const { code, message } = unusable(file, thrown, 'PSTN_TRUST_INVALID')
      if (message !== said) log.error({ code, reason: message }, 'roots of the other signer not taken')
      said = message
    }
  }
  const follow = async () => {
    while (!signal.aborted) {
      await clock.sleep(RECHECK_MS, signal).catch(() => undefined)
      if (!signal.aborted) await look()
    }
  }
  void follow()
  return roots
}

const unusable = (
  file: string,
  cause: unknown,
  code: 'PSTN_CONFIG_INVALID' | 'PSTN_TRUST_INVALID',
): PosternError => new PosternError(code, `${file}: ${asPosternError(cause, code).message}`, { cause })
