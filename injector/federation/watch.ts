// Whom the mesh may meet from outside, as each replica pushes it: the documents of the injector's namespace, joined with what
// the leader fetched of their bundles. Nothing is pushed before both are known: a replica that has just started must not say
// that there are no partners.
import type { V1ConfigMap } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import type { PartnerClientsDocument, TrustDomainDocument } from '../../shared/federation/document.ts'
import { type FetchedBundle, parseFetched } from '../../shared/federation/fetched.ts'
import type { Partner, PartnerClients } from '../../shared/federation/model.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { FEDERATION_LABEL, PARTNERS_CONFIGMAP, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { selects } from '../../shared/policy/bind.ts'
import { watchList } from '../kube/watch.ts'
import {
  agreed,
  clientsIn,
  type FederationRecord,
  federationRecord,
  partnersOf,
  trustDomainsIn,
} from './documents.ts'

export type Federation = {
  /** ConfigMaps in force, oldest first. */
  readonly records: Live<readonly FederationRecord[]>
  /** By trust domain. Of those that a document names it stays when it is gone from the ConfigMap, or cannot be read there. */
  readonly fetched: Live<ReadonlyMap<string, FetchedBundle>>
  /** Trust domains of which that is so: the leader puts them back. */
  readonly lost: Live<readonly string[]>
  /** For every sidecar. */
  readonly partners: Live<readonly Partner[]>
  /** Of all pods: `clientsOf` says whose. */
  readonly clients: Live<readonly PartnerClientsDocument[]>
  /** Both have been listed once. */
  readonly known: Live<boolean>
}

/** Those that bind a pod. */
export const clientsOf = (
  documents: readonly PartnerClientsDocument[],
  pod: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> },
): readonly PartnerClients[] =>
  documents
    .filter(({ namespace, selector }) => namespace === pod.namespace && selects(selector, pod.labels))
    .map(({ clients }) => clients)
    .sort((a, b) => (a.name < b.name ? -1 : 1))

export type FederationContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly trustDomain: string
}

const PATH = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`

export function watchFederation(context: FederationContext): Federation {
  const { kube } = context
  const records = live<readonly FederationRecord[]>([])
  const fetched = live<ReadonlyMap<string, FetchedBundle>>(new Map())
  const lost = live<readonly string[]>([])
  let stored: ReadonlyMap<string, FetchedBundle> = new Map()
  const partners = live<readonly Partner[]>([])
  const clients = live<readonly PartnerClientsDocument[]>([])
  const known = live(false)
  const listed = new Set<string>()
  const settle = (what: string) => {
    const documents = trustDomainsIn(records.get()).map(({ document }) => document)
    const kept = remembered(documents, fetched.get(), stored)
    fetched.set(new Map([...kept, ...stored]))
    setDifferent(lost, [...kept.keys()])
    setDifferent(partners, partnersOf(documents, fetched.get()))
    setDifferent(clients, clientsIn(records.get()))
    listed.add(what)
    if (listed.size === 2 && !known.get()) known.set(true)
  }

  const byName = new Map<string, FederationRecord>()
  const read = (configMap: V1ConfigMap) => {
    const name = configMap.metadata?.name ?? ''
    byName.set(name, federationRecord(configMap, byName.get(name), context.trustDomain))
  }
  const takeRecords = () => {
    setDifferent(records, agreed(byName.values()))
    settle('documents')
  }
  void watchList<V1ConfigMap>(
    kube,
    PATH,
    { labelSelector: `${FEDERATION_LABEL}=true` },
    {
      onList: items => {
        const names = new Set(items.map(({ metadata }) => metadata?.name ?? ''))
        for (const name of byName.keys()) if (!names.has(name)) byName.delete(name)
        for (const item of items) read(item)
        takeRecords()
      },
      onEvent: (type, configMap) => {
        if (type === 'DELETED') byName.delete(configMap.metadata?.name ?? '')
        else read(configMap)
        takeRecords()
      },
    },
    context,
  )
  const readable = reader(context.log)
  const takeFetched = (configMap: V1ConfigMap | undefined) => {
    stored = readable(configMap?.data ?? {})
    settle('bundles')
  }
  void watchList<V1ConfigMap>(
    kube,
    PATH,
    { fieldSelector: `metadata.name=${PARTNERS_CONFIGMAP}` },
    {
      onList: ([configMap]) => takeFetched(configMap),
      onEvent: (type, configMap) => takeFetched(type === 'DELETED' ? undefined : configMap),
    },
    context,
  )
  return { records, fetched, lost, partners, clients, known }
}

/** Of all entries one has changed: each has roots that are parsed. Those that cannot be read are left out, and told once. */
function reader(log: Logger) {
  let before = new Map<string, { readonly json: string; readonly bundle: FetchedBundle | undefined }>()
  const parse = (trustDomain: string, json: string): FetchedBundle | undefined => {
    try {
      return parseFetched(trustDomain, json)
    } catch (thrown) {
      log.error({ ...failure(thrown, 'PSTN_PARTNER_INVALID'), trustDomain }, 'partner bundle cannot be read')
      return undefined
    }
  }
  return (data: Readonly<Record<string, string>>): ReadonlyMap<string, FetchedBundle> => {
    before = new Map(
      Object.entries(data).map(([trustDomain, json]) => {
        const known = before.get(trustDomain)
        return [trustDomain, known?.json === json ? known : { json, bundle: parse(trustDomain, json) }]
      }),
    )
    return new Map([...before].flatMap(([name, { bundle }]) => (bundle ? [[name, bundle]] : [])))
  }
}

/** A partner that no document names is forgotten: named again, it is a new one. */
function remembered(
  documents: readonly TrustDomainDocument[],
  former: ReadonlyMap<string, FetchedBundle>,
  stored: ReadonlyMap<string, FetchedBundle>,
): ReadonlyMap<string, FetchedBundle> {
  const fetched = new Set(
    documents.flatMap(({ trustDomain, source }) => (source.kind === 'endpoint' ? [trustDomain] : [])),
  )
  return new Map([...former].filter(([domain]) => fetched.has(domain) && !stored.has(domain)))
}

function setDifferent<T>(target: { get(): T; set(value: T): void }, next: T): void {
  if (JSON.stringify(target.get()) !== JSON.stringify(next)) target.set(next)
}
