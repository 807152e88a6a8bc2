// A federation that a test sets, in place of the ConfigMaps that a replica watches.
import type { Federation } from '../../injector/federation/watch.ts'
import type { PartnerClientsDocument } from '../../shared/federation/document.ts'
import type { Partner } from '../../shared/federation/model.ts'
import { live, type Settable } from '../../shared/live.ts'

export const federationOf = (
  partners: readonly Partner[] = [],
): Pick<Federation, 'partners' | 'clients'> & {
  readonly partners: Settable<readonly Partner[]>
  readonly clients: Settable<readonly PartnerClientsDocument[]>
} => ({ partners: live(partners), clients: live<readonly PartnerClientsDocument[]>([]) })

/** What the webhook asks where no test is about it. */
export const NO_FEDERATION = { trustDomain: 'cluster.local', present: () => [], prefixes: () => [] }
