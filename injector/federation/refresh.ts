// Keeps every partner's bundle fresh on the leader: one loop for each endpoint, from when its document appears to when it
// goes. What was fetched is in the ConfigMap alone, so that a leader may die anywhere and the next one goes on.
import { setMaxListeners } from 'node:events'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError } from '../../shared/errors.ts'
import type { BundleSource, TrustDomainDocument } from '../../shared/federation/document.ts'
import type { FetchedBundle } from '../../shared/federation/fetched.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, until } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { type Named, trustDomainsIn } from './documents.ts'
import { fetchBundle } from './fetch.ts'
import { type Answer, judge, pauseMs } from './judge.ts'
import { createPartnerStore, type PartnerStore } from './store.ts'
import type { Federation } from './watch.ts'

export type RefreshContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  readonly federation: Pick<Federation, 'records' | 'fetched' | 'known'>
  /** Of our own trust domain. */
  readonly trust: Live<TrustBundle>
  /** Each answer, with what was known before and what holds now. */
  onAnswer(partner: Named<TrustDomainDocument>, answer: Answer, now: FetchedBundle): void
}

type Endpoint = Extract<BundleSource, { kind: 'endpoint' }>
const RETRY_MS = 5_000

/** Runs until aborted. */
export async function refreshPartners(context: RefreshContext, signal: AbortSignal): Promise<void> {
  const { federation } = context
  const store = createPartnerStore(context.kube, federation.fetched.get)
  const loops = new Map<string, { readonly source: string; readonly end: AbortController }>()
  const running = new Set<Promise<void>>()
  const run = (work: Promise<void>) => {
    running.add(work)
    void work.finally(() => running.delete(work))
  }
  const start = (partner: Named<TrustDomainDocument>, endpoint: Endpoint) => {
    const end = new AbortController()
    const stopped = AbortSignal.any([signal, end.signal])
    setMaxListeners(0, stopped)
    loops.set(partner.document.trustDomain, { source: JSON.stringify(endpoint), end })
    run(follow(context, store, partner, endpoint, stopped))
  }
  const settle = () => {
    const wanted = new Map(
      trustDomainsIn(federation.records.get()).flatMap(partner => {
        const { trustDomain, source } = partner.document
        return source.kind === 'endpoint' ? [[trustDomain, { partner, source }] as const] : []
      }),
    )
    for (const [trustDomain, { source, end }] of loops) {
      if (JSON.stringify(wanted.get(trustDomain)?.source) === source) continue
      end.abort()
      loops.delete(trustDomain)
    }
    for (const [trustDomain, { partner, source }] of wanted)
      if (!loops.has(trustDomain)) start(partner, source)
    // A document that cannot be read may be about any of them.
    if (federation.records.get().every(({ problems }) => problems.length === 0))
      run(prune(context, store, new Set(wanted.keys()), signal))
  }
  await until(federation.known, (known): known is true => known, signal).catch(() => undefined)
  if (signal.aborted) return
  const stop = federation.records.subscribe(settle)
  settle()
  await new Promise<void>(resolve => {
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
  })
  stop()
  await Promise.all(running)
}

async function follow(
  context: RefreshContext,
  store: PartnerStore,
  partner: Named<TrustDomainDocument>,
  endpoint: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, onAnswer } = context
  const { trustDomain } = partner.document
  while (!signal.aborted) {
    const answer = await asked(context, trustDomain, endpoint, signal)
    if (!answer) return
    const judged = (former: FetchedBundle | undefined) => judge(former, endpoint.url, answer, clock.now())
    const pause = await store.update(trustDomain, judged, signal).then(
      now => {
        onAnswer(partner, answer, now)
        return pauseMs(now, random())
      },
      thrown => notKept(context, thrown, signal),
    )
    await clock.sleep(pause, signal).catch(() => undefined)
  }
}

/** Undefined if nobody wants to know any more. */
async function asked(
  { trust }: RefreshContext,
  trustDomain: string,
  { url, roots }: Endpoint,
  signal: AbortSignal,
): Promise<Answer | undefined> {
  try {
    const question = { trustDomain, url, ownRoots: trust.get().roots, ...(roots && { roots }) }
    return { kind: 'bundle', bundle: await fetchBundle(question, signal) }
  } catch (thrown) {
    if (signal.aborted) return undefined
    const { code, message: reason } = asPosternError(thrown, 'PSTN_PARTNER_UNREACHABLE')
    return { kind: 'failure', code, reason }
  }
}

function notKept({ log }: RefreshContext, thrown: unknown, signal: AbortSignal): number {
  if (!signal.aborted) log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'partner bundle not kept')
  return RETRY_MS
}

async function prune(
  context: RefreshContext,
  store: PartnerStore,
  kept: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  await store.prune(kept, signal).catch(thrown => notKept(context, thrown, signal))
}
