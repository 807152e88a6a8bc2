// The first line of a control stream and what follows from it: a sidecar says whose it is, and waits a moment where the
// injector has not heard of its pod yet, since a sidecar may be faster than its pod's status.
import type { Clock } from '../../shared/clock.ts'
import { decodeFromSidecar } from '../../shared/control/decode.ts'
import type { Hello } from '../../shared/control/messages.ts'
import { unless, withDeadline } from '../../shared/deadline.ts'
import { PosternError } from '../../shared/errors.ts'
import { refuseRevoked } from '../../shared/revocation.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'
import type { Directory } from '../directory/directory.ts'
import type { Revocations } from '../revocation/watch.ts'
import { type Admission, admit } from './admit.ts'

/** How long a hello may take to come, and then its pod to become known. */
const GREETING_MS = 5_000

export type Greeted = { readonly hello: Hello; readonly admission: Extract<Admission, { kind: 'admit' }> }

export type GreetingContext = {
  readonly directory: Directory
  readonly revocations: Pick<Revocations, 'check'>
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** @throws PosternError PSTN_CONTROL_MALFORMED, PSTN_CONTROL_REJECTED or PSTN_PEER_REVOKED with the reason. */
export async function greet(
  incoming: AsyncIterator<string>,
  peer: VerifiedPeer,
  context: GreetingContext,
): Promise<Greeted> {
  const { revocations, clock, signal } = context
  const late = `no hello within ${GREETING_MS} ms`
  const first = await withDeadline({ clock, ms: GREETING_MS, signal, late }, soon =>
    unless(soon, incoming.next()),
  )
  const hello = first.done ? undefined : decodeFromSidecar(first.value)
  if (hello?.kind !== 'hello') {
    throw new PosternError('PSTN_CONTROL_MALFORMED', `${hello?.kind ?? 'the end'} came before the hello`)
  }
  checkRevoked(revocations, peer, hello.podUid)
  const admission = await admissionOf(hello, peer, context)
  if (admission.kind === 'admit') return { hello, admission }
  throw new PosternError('PSTN_CONTROL_REJECTED', admission.reason)
}

/**
 * Also by the pod that it says it is of: certificates of other signers do not tell.
 * @throws PosternError PSTN_PEER_REVOKED, or PSTN_REVOCATION_INVALID while nobody knows.
 */
export function checkRevoked(
  { check }: Pick<Revocations, 'check'>,
  peer: VerifiedPeer,
  podUid?: string,
): void {
  const revoked = check.get()
  if (!revoked) throw new PosternError('PSTN_REVOCATION_INVALID', 'it is not known who is revoked')
  refuseRevoked(revoked, peer)
  if (podUid !== undefined) refuseRevoked(revoked, { podUid })
}

async function admissionOf(hello: Hello, peer: VerifiedPeer, { directory, clock, signal }: GreetingContext) {
  const decide = () => admit(directory.world, { podUid: hello.podUid, peer })
  const present = decide()
  if (present.kind === 'admit' || !present.mayHeal) return present
  const { promise: settled, resolve } = Promise.withResolvers<Admission>()
  const stop = directory.subscribe(() => {
    const decision = decide()
    if (decision.kind === 'admit' || !decision.mayHeal) resolve(decision)
  })
  const over = new AbortController()
  const timeUp = clock.sleep(GREETING_MS, AbortSignal.any([signal, over.signal])).then(decide)
  try {
    return await Promise.race([settled, timeUp])
  } finally {
    stop()
    over.abort()
    timeUp.catch(() => undefined)
  }
}
