// Who is revoked and who is to renew, as this replica has it in force. A version that does not parse changes nothing: the
// last good one stays. Where there never was a good one (this replica has just started), nobody knows whom it was meant to
// refuse, and refusing everybody would end the mesh for a typing error: `revoked` stays unknown, and until it is known this
// replica gives no sidecar a directory and signs nothing. Sidecars that run go on with the list that they hold.
import type { V1ConfigMap } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import type { Logger } from '../../shared/log.ts'
import { REVOCATIONS_CONFIGMAP, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { parseRenewalOrders, type RenewalOrder } from '../../shared/renewal-order.ts'
import { type RevocationCheck, type Revoked, revocationCheck } from '../../shared/revocation.ts'
import {
  checkKeys,
  parseRevocations,
  RENEWALS_KEY,
  REVOCATIONS_KEY,
  type Revocation,
  revokedAt,
} from '../../shared/revocation-list.ts'
import { watchList } from '../kube/watch.ts'

export type RevocationRecord = {
  /** Undefined: there never was a list that could be read. */
  readonly revocations: readonly Revocation[] | undefined
  readonly renewals: readonly RenewalOrder[]
  /** One line each; empty if the present version is the one in force. */
  readonly problems: readonly string[]
}

/** An empty list lifts everything; the lack of one is an accident, or somebody's who is on it. */
const GONE = new PosternError(
  'PSTN_REVOCATION_INVALID',
  `${REVOCATIONS_KEY} is gone: to lift everything, write an empty list`,
)

/** `configMap` undefined: there is none, and so nobody is revoked. `injectorIdentity` may not be. */
export function revocationRecord(
  configMap: Pick<V1ConfigMap, 'data' | 'binaryData'> | undefined,
  former: RevocationRecord | undefined,
  injectorIdentity: string,
): RevocationRecord {
  const { data = {}, binaryData = {} } = configMap ?? {}
  const problems: string[] = []
  const read = <T>(parse: () => T, lastGood: T): T => {
    try {
      return parse()
    } catch (thrown) {
      problems.push(asPosternError(thrown, 'PSTN_REVOCATION_INVALID').message)
      return lastGood
    }
  }
  const revocations = read(() => {
    checkKeys(data, binaryData)
    const text = data[REVOCATIONS_KEY]
    if (text === undefined && former?.revocations?.length) throw GONE
    return parseRevocations(text, injectorIdentity)
  }, former?.revocations)
  const renewals = read(() => parseRenewalOrders(data[RENEWALS_KEY]), former?.renewals ?? [])
  return { revocations, renewals, problems }
}

export type Revocations = {
  /** Entries in force now; undefined until there was a list that could be read. */
  readonly revoked: Live<Revoked | undefined>
  /** The same as a question. */
  readonly check: Live<RevocationCheck | undefined>
  readonly renewals: Live<readonly RenewalOrder[]>
}

export type RevocationContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly injectorIdentity: string
  /** Called with each version that was read. */
  onRecord?(record: RevocationRecord): void
}

const PATH = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`
/** How late an entry whose time is over may leave the list. */
const EXPIRY_CHECK_MS = 60_000

export function watchRevocations(context: RevocationContext): Revocations {
  const { kube, clock, signal, injectorIdentity, onRecord } = context
  const revoked = live<Revoked | undefined>(undefined)
  const check = live<RevocationCheck | undefined>(undefined)
  const renewals = live<readonly RenewalOrder[]>([])
  let record: RevocationRecord | undefined
  const setRevoked = () => {
    const next = record?.revocations && revokedAt(record.revocations, clock.now())
    if (JSON.stringify(next) === JSON.stringify(revoked.get())) return
    // First who is let in, then who is told.
    check.set(next && revocationCheck(next))
    revoked.set(next)
  }
  const take = (configMap: V1ConfigMap | undefined) => {
    record = revocationRecord(configMap, record, injectorIdentity)
    onRecord?.(record)
    setRevoked()
    if (JSON.stringify(record.renewals) !== JSON.stringify(renewals.get())) renewals.set(record.renewals)
  }
  void watchList<V1ConfigMap>(
    kube,
    PATH,
    { fieldSelector: `metadata.name=${REVOCATIONS_CONFIGMAP}` },
    {
      onList: ([configMap]) => take(configMap),
      onEvent: (type, configMap) => take(type === 'DELETED' ? undefined : configMap),
    },
    context,
  )
  void (async () => {
    while (!signal.aborted) {
      await clock.sleep(EXPIRY_CHECK_MS, signal).catch(() => undefined)
      setRevoked()
    }
  })()
  return { revoked, check, renewals }
}
