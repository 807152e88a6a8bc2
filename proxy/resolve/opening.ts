// Opens a connection to what an address was resolved to. While nothing of the application was sent, a Service's endpoint
// that cannot be opened is no reason to refuse: another one is tried.
import { Ending, type EndSignal } from '../../shared/ending.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { Balancer, Member } from './balancer.ts'
import { ANSWERED, findingOf, type Report, UNDECIDED } from './endpoint-health.ts'
import type { Route } from './route.ts'

export type Resolution =
  | { readonly kind: 'single'; readonly route: Route }
  | { readonly kind: 'service'; readonly balancer: Balancer; readonly stickyMs: number }

export type Opening<T> = {
  readonly signal: EndSignal
  /** Sends nothing of the application. Rejects with a PosternError. */
  attempt(route: Route, signal: EndSignal): Promise<T>
  /** Before each try: which endpoint of a Service, after how many others. */
  onTry(endpoint: string, tries: number): void
  /** A try failed, and another follows. */
  onRetry(error: PosternError): void
  /** Whether anybody still waits for it. */
  isWanted(): boolean
  readonly tryMs?: number
}

/** Counts as a stream of its endpoint until it is disposed of. */
export type Opened<T> = Disposable & { readonly remote: T }

const MAX_TRIES = 3
/** So many endpoints that do not accept our certificate are believed. */
const REFUSERS = 2
/** For a try that others may follow: a SYN may be lost once, and a dead node costs no caller its patience. */
const TRY_MS = 2_000

/** @throws PosternError of the last try. */
export async function open<T>(to: Resolution, opening: Opening<T>): Promise<Opened<T>> {
  if (to.kind === 'single') {
    const remote = await opening.attempt(to.route, opening.signal)
    return { remote, [Symbol.dispose]: () => undefined }
  }
  const { balancer, stickyMs } = to
  const judge = new Judge(balancer, opening.signal)
  const tried: Member[] = []
  let last = new PosternError('PSTN_NO_ENDPOINT', 'the last endpoint has just gone')
  for (let member = balancer.take(tried, stickyMs); member; member = balancer.take(tried, stickyMs)) {
    if (tried.length > 0) opening.onRetry(last)
    opening.onTry(member.endpoint, tried.length)
    tried.push(member)
    const isLast = tried.length >= Math.min(MAX_TRIES, balancer.size)
    const outcome = await tryMember(member, isLast, opening)
    if (!(outcome instanceof PosternError)) {
      judge.opened(member)
      return outcome
    }
    last = outcome
    const mayPass = judge.failed(member, last)
    if (isLast || !mayPass || opening.signal.aborted || !opening.isWanted()) break
  }
  judge.gaveUp()
  throw last
}

/** Tells the balancer what one opening, all its tries together, says of each endpoint. */
class Judge {
  readonly #balancer: Balancer
  readonly #signal: EndSignal
  /** Those that do not accept our certificate. */
  readonly #disputed = new Map<Member, Report>()

  constructor(balancer: Balancer, signal: EndSignal) {
    this.#balancer = balancer
    this.#signal = signal
  }

  /** Whoever does not accept what this one has accepted is at fault. */
  opened(member: Member): void {
    this.#balancer.report(member, ANSWERED)
    for (const [refuser, failed] of this.#disputed) this.#report(refuser, failed)
  }

  /** Whether another endpoint may do better. */
  failed(member: Member, error: PosternError): boolean {
    const finding = findingOf(error)
    if (finding.kind !== 'disputed') {
      this.#report(member, finding)
      return finding.kind === 'failed'
    }
    this.#disputed.set(member, { kind: 'failed', code: finding.code })
    return this.#disputed.size < REFUSERS
  }

  gaveUp(): void {
    for (const refuser of this.#disputed.keys()) this.#report(refuser, UNDECIDED)
  }

  #report(member: Member, report: Report): void {
    // One endpoint alone has nobody to stand in for it.
    const isJudged = this.#balancer.size > 1 && !this.#signal.aborted
    this.#balancer.report(member, isJudged ? report : UNDECIDED)
  }
}

async function tryMember<T>(
  member: Member,
  isLast: boolean,
  opening: Opening<T>,
): Promise<Opened<T> | PosternError> {
  const { signal, attempt } = opening
  member.open += 1
  const release = () => {
    member.open -= 1
  }
  try {
    const remote = await (isLast ? attempt(member.route, signal) : within(member.route, opening))
    return { remote, [Symbol.dispose]: release }
  } catch (thrown) {
    release()
    return asPosternError(thrown, 'PSTN_PEER_UNREACHABLE')
  }
}

async function within<T>(route: Route, { signal, attempt, tryMs = TRY_MS }: Opening<T>): Promise<T> {
  const over = new Ending()
  const code = route.kind === 'tunnel' ? 'PSTN_PEER_UNREACHABLE' : 'PSTN_DESTINATION_UNREACHABLE'
  const timeUp = () => over.abort(new PosternError(code, `not open after ${tryMs} ms, and there are others`))
  const timer = setTimeout(timeUp, tryMs)
  const onAbort = () => over.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await attempt(route, over)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}
