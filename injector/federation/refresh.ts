// Keeps every partner's bundle fresh on the leader: one loop for each endpoint, from when its document appears to when it
// goes. What was fetched is in the ConfigMap alone, so that a leader may die anywhere and the next one goes on.
import { setMaxListeners } from 'node:events'
import { type Backoff, backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError } from '../../shared/errors.ts'
import type { BundleSource, TrustDomainDocument } from '../../shared/federation/document.ts'
import type { FetchedBundle } from '../../shared/federation/fetched.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Live, until } from '../../shared/live.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { type FederationRecord, type Named, trustDomainsIn } from './documents.ts'
import { fetchBundle } from './fetch.ts'
import { type Answer, judge, pauseMs } from './judge.ts'
import { type Change, createPartnerStore, type PartnerStore } from './store.ts'
import type { Federation } from './watch.ts'
import { createWritePace, type Worth, type WritePace } from './write-pace.ts'

export type RefreshContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly random: () => number
  readonly federation: Pick<Federation, 'records' | 'fetched' | 'lost' | 'known'>
  /** Of our own trust domain. */
  readonly trust: Live<TrustBundle>
  readonly told: Told
}

export type Told = {
  /** Each answer, with what was known before and what holds now. */
  answer(
    partner: Named<TrustDomainDocument>,
    answer: Answer,
    now: FetchedBundle,
    former?: FetchedBundle,
  ): void
  /** Each time that the ConfigMap was to be written, and why it could not be. */
  write(thrown?: unknown): void
}

type Endpoint = Extract<BundleSource, { kind: 'endpoint' }>
const RETRY: Backoff = { baseMs: 5_000, capMs: 300_000 }

/** Runs until aborted. */
export async function refreshPartners(context: RefreshContext, signal: AbortSignal): Promise<void> {
  const { federation } = context
  const store = createPartnerStore(context.kube, federation.fetched.get)
  const loops = new Map<string, { readonly source: string; readonly end: AbortController }>()
  /** Whose document this leader has seen. */
  const met = new Set<string>()
  const running = new Set<Promise<void>>()
  const run = (work: Promise<void>) => {
    running.add(work)
    void work.finally(() => running.delete(work))
  }
  const start = (partner: Named<TrustDomainDocument>, endpoint: Endpoint) => {
    const { trustDomain } = partner.document
    const end = new AbortController()
    const stopped = AbortSignal.any([signal, end.signal])
    setMaxListeners(0, stopped)
    met.add(trustDomain)
    loops.set(trustDomain, { source: JSON.stringify(endpoint), end })
    run(follow(context, store, partner, endpoint, stopped))
  }
  const tidy = tidier(context, signal, () =>
    store.tidy(trustDomain => {
      if (loops.has(trustDomain)) return true
      // A document of which nothing is in force may be about a partner that this leader has never seen.
      return !met.has(trustDomain) && federation.records.get().some(isUnreadable)
    }, signal),
  )
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
    run(tidy())
  }
  await until(federation.known, (known): known is true => known, signal).catch(() => undefined)
  if (signal.aborted) return
  const stops = [federation.records.subscribe(settle), federation.lost.subscribe(() => run(tidy()))]
  settle()
  await new Promise<void>(resolve => {
    signal.addEventListener('abort', () => resolve(), { once: true })
    if (signal.aborted) resolve()
  })
  for (const stop of stops) stop()
  await Promise.all(running)
}

const isUnreadable = ({ problems, inForce }: FederationRecord): boolean =>
  problems.length > 0 && inForce === 'nothing'

/** Tries until it is done: whoever wants it again while that is waited for need not. */
function tidier(
  { clock, random, told }: RefreshContext,
  signal: AbortSignal,
  tidy: () => Promise<boolean>,
): () => Promise<void> {
  let waits = false
  return async () => {
    for (let failures = 0; !waits && !signal.aborted; failures += 1) {
      try {
        if (await tidy()) told.write()
        return
      } catch (thrown) {
        if (signal.aborted || waits) return
        told.write(thrown)
      }
      waits = true
      await clock.sleep(backoffMs(RETRY, failures, random()), signal).catch(() => undefined)
      waits = false
    }
  }
}

async function follow(
  context: RefreshContext,
  store: PartnerStore,
  partner: Named<TrustDomainDocument>,
  endpoint: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, told } = context
  const { trustDomain } = partner.document
  const pace = createWritePace(clock.monotonic)
  let failures = 0
  while (!signal.aborted) {
    const answer = await asked(context, trustDomain, endpoint, signal)
    if (!answer) return
    const judged = (former: FetchedBundle | undefined) => judge(former, endpoint.url, answer, clock.now())
    const pause = await keep(store, pace, trustDomain, judged, signal).then(
      ({ former, now, worth }) => {
        failures = 0
        if (worth !== 'nothing') told.write()
        told.answer(partner, answer, now, former)
        return pauseMs(now, random())
      },
      thrown => {
        if (!signal.aborted) told.write(thrown)
        failures += 1
        return backoffMs(RETRY, failures - 1, random())
      },
    )
    await clock.sleep(pause, signal).catch(() => undefined)
  }
}

type Kept = { readonly former: FetchedBundle | undefined; readonly now: FetchedBundle; readonly worth: Worth }

/** @throws KubeError */
async function keep(
  store: PartnerStore,
  pace: WritePace,
  trustDomain: string,
  judged: (former: FetchedBundle | undefined) => FetchedBundle,
  signal: AbortSignal,
): Promise<Kept> {
  const change = (present: FetchedBundle | undefined): Change<Kept, FetchedBundle> => {
    const former = pace.known(present)
    const now = judged(former)
    const worth = pace.worthOf(present, now)
    return { result: { former, now, worth }, ...(worth !== 'nothing' && { next: now }) }
  }
  const kept = await store.update(trustDomain, change, signal)
  pace.settle(kept.now, kept.worth)
  return kept
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
