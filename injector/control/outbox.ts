// What one sidecar has been told. Answers and state are sent when they differ from what it holds, so that the same
// question costs nothing and a change is never forgotten.
import {
  type AddressEntry,
  type FromInjector,
  SERVICE_EXTENSIONS,
  type ServiceEntry,
  STATE_EXTENSIONS,
  type State,
  type StateExtensions,
} from '../../shared/control/messages.ts'
import type { Partner } from '../../shared/federation/model.ts'
import {
  type AuthorizationPolicy,
  type PolicySet,
  TLS_PORTS,
  WATCHED_POLICIES,
  withoutTlsPorts,
  withoutWatched,
} from '../../shared/policy/model.ts'
import { renewalOf } from '../../shared/renewal-order.ts'
import type { Revoked } from '../../shared/revocation.ts'
import type { OwnTrust } from '../../shared/trust-bundle.ts'
import { answer } from '../directory/answer.ts'
import { type Snapshot, snapshotFor } from '../directory/snapshot.ts'
import type { Changes, World } from '../directory/world.ts'
import { clientsOf, type Federation } from '../federation/watch.ts'
import type { Revocations } from '../revocation/watch.ts'
import { withheld } from './withheld.ts'

export type Outbox = {
  /** The full set of subscribed addresses. */
  subscribe(addresses: readonly string[]): void
  /** Sends the state if it is another than the last. False if the pod is gone or has ended. */
  refreshState(): boolean
  /** Sends the answers that may have changed and do differ. */
  refreshAddresses(changed: Changes): void
}

export type OutboxOptions = {
  readonly world: World
  readonly podUid: string
  /** Of the sidecar's hello. */
  readonly features: readonly string[]
  readonly trust: () => OwnTrust
  readonly revocations: Pick<Revocations, 'revoked' | 'renewals'>
  readonly federation: Pick<Federation, 'partners' | 'clients'>
  /** Ports with TLS that the sidecar does not know, when they change. */
  onTlsPortsClosed?(ports: readonly number[]): void
  send(message: FromInjector): void
}

export function createOutbox(options: OutboxOptions): Outbox {
  const { world, podUid, features, trust, revocations, federation, send } = options
  const unknown = STATE_EXTENSIONS.filter(extension => !features.includes(extension))
  /** What was last sent, as JSON; undefined while an address waits for its first answer. */
  const answers = new Map<string, string | undefined>()
  const knowsServices = SERVICE_EXTENSIONS.every(extension => features.includes(extension))
  const knowsTlsPorts = features.includes(TLS_PORTS)
  const knowsWatched = features.includes(WATCHED_POLICIES)
  const knowsTokens = features.includes('requestAuthentication' satisfies keyof StateExtensions)
  const knowsOutside = features.includes('outside' satisfies keyof StateExtensions)
  let kept = withheld([])
  const answerFor = (address: string): AddressEntry => {
    const entry = answer(world, address, podUid)
    return kept.from(entry.kind === 'service' && !knowsServices ? firstForm(entry) : entry)
  }
  const knowsRevoked = features.includes('revoked' satisfies keyof StateExtensions)
  let stateSent = ''
  /** Apart from the rest: a long list is kept as text for no sidecar, and sent to each once, not with every edit of a policy. */
  let revokedSent: Revoked | undefined
  const revokedSince = (): Pick<State, 'revoked'> => {
    const revoked = knowsRevoked ? revocations.revoked.get() : undefined
    if (!revoked || revoked === revokedSent) return {}
    revokedSent = revoked
    return { revoked }
  }
  const knowsPartners = features.includes('partners' satisfies keyof StateExtensions)
  /** Apart from the rest as well, but sent each time, none included: absent would mean that we do not speak of them. */
  let partnersSent = NO_PARTNERS
  /** What binds the pod beyond what the directory knows; what is empty is left out. */
  const extensions = (): StateExtensions => {
    const pod = world.pods.get(podUid)
    const renew = renewalOf(revocations.renewals.get(), podUid)
    const { retired = [], revoked: revokedRoots = [] } = trust().former ?? {}
    const partnerClients = pod ? clientsOf(federation.clients.get(), pod) : []
    return {
      ...(renew && { renew }),
      ...(retired.length > 0 && { retired }),
      ...(revokedRoots.length > 0 && { revokedRoots }),
      ...(partnerClients.length > 0 && { partnerClients }),
    }
  }
  let version = 0
  let closed = ''
  /** To those that do not know ports with TLS they are strict. */
  const policyFor = (snapshot: Snapshot): PolicySet => {
    const whole = knowsTokens ? snapshot.policy : withoutTokens(snapshot)
    const policy = knowsWatched ? whole : withoutWatched(whole)
    if (knowsTlsPorts) return policy
    const ports = Object.keys(policy.mode.tls ?? {})
    if (closed !== ports.join()) options.onTlsPortsClosed?.(ports.map(Number))
    closed = ports.join()
    return withoutTlsPorts(policy)
  }

  const sendDifferent = (addresses: Iterable<string>) => {
    const entries: AddressEntry[] = []
    for (const address of addresses) {
      const entry = answerFor(address)
      const text = JSON.stringify(entry)
      if (answers.get(address) === text) continue
      answers.set(address, text)
      entries.push(entry)
    }
    if (entries.length > 0) send({ kind: 'addresses', entries })
  }
  return {
    subscribe: addresses => {
      const wanted = new Set(addresses)
      for (const address of [...answers.keys()]) if (!wanted.has(address)) answers.delete(address)
      sendDifferent([...wanted].filter(address => !answers.has(address)))
    },
    refreshState: () => {
      const snapshot = snapshotFor(world, podUid)
      if (!snapshot) return false
      const known = without({ ...snapshot, ...extensions() }, unknown)
      if (!knowsOutside) kept = withheld(snapshot.outside ?? [])
      const prefixes = [...known.prefixes, ...kept.prefixes]
      const policy = policyFor(snapshot)
      const { trustDomain, roots } = trust()
      // A set: that another of them signs now is no news to anybody.
      const told = { policy, prefixes, trust: [{ trustDomain, roots: roots.toSorted() }] }
      const content: Omit<State, 'kind' | 'version'> = { ...known, ...told }
      const news = revokedSince()
      const text = JSON.stringify(content)
      const partners = knowsPartners ? federation.partners.get() : NO_PARTNERS
      if (text === stateSent && !news.revoked && partners === partnersSent) return true
      stateSent = text
      partnersSent = partners
      version += 1
      send({ kind: 'state', version, ...content, ...news, ...(knowsPartners && { partners }) })
      if (!knowsOutside) sendDifferent(answers.keys())
      return true
    },
    // Where the pod itself stands decides which endpoints it is told.
    refreshAddresses: ({ everything, addresses, pods }) =>
      sendDifferent(
        everything || pods.has(podUid)
          ? answers.keys()
          : [...addresses].filter(address => answers.has(address)),
      ),
  }
}

const NO_PARTNERS: readonly Partner[] = []

/** Sidecars refuse keys that they do not know. */
const without = (snapshot: Snapshot, unknown: readonly (keyof StateExtensions)[]): Snapshot => {
  const known = { ...snapshot }
  for (const key of unknown) delete known[key]
  return known
}

/**
 * To a sidecar that reads no tokens: its ports with requests are closed. It would let bad tokens pass, and what callers write
 * into the headers in which applications look for claims.
 */
function withoutTokens({ policy, requestAuthentication = [], protocols = {} }: Snapshot): PolicySet {
  const ports = Object.keys(protocols).map(Number)
  const [first] = requestAuthentication
  if (first === undefined || ports.length === 0) return policy
  const closed: AuthorizationPolicy = {
    kind: 'AuthorizationPolicy',
    name: first.name,
    action: 'DENY',
    rules: [{ to: [{ ports }] }],
    features: ['requestAuthentication'],
  }
  return { ...policy, policies: [...policy.policies, closed] }
}

const firstForm = ({ kind, address, service, ports }: ServiceEntry): ServiceEntry => ({
  kind,
  address,
  service,
  ports,
})
