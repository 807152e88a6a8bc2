// One certificate request: put it under one of this pod's eight names, then poll until it is answered. Sidecars may
// create and get requests, not list, watch or delete them, so names are reused as the injector frees them.
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube, KubeError } from '../../shared/kube/rest.ts'
import { CSR_SLOTS, csrName } from '../../shared/names.ts'

/** A request that is under way. Kept, so that a restart resumes it instead of making another. */
export type PendingRequest = {
  readonly slot: number
  /** PEM, PKCS#8. */
  readonly key: string
  /** PEM, PKCS#10. */
  readonly request: string
}

/** What every request of this pod has in common. */
export type CsrApi = {
  readonly kube: Kube
  readonly clock: Clock
  readonly podUid: string
  /** `system:serviceaccount:<namespace>:<name>`: how the API server names this pod. */
  readonly username: string
  readonly signerName: string
  readonly lifetimeSeconds: number
  readonly timeoutMs: number
}

type Condition = { readonly type: string; readonly reason?: string; readonly message?: string }

type CertificateSigningRequest = {
  readonly apiVersion: 'certificates.k8s.io/v1'
  readonly kind: 'CertificateSigningRequest'
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly request: string
    readonly signerName: string
    readonly expirationSeconds: number
    readonly usages: readonly string[]
    readonly username?: string
    readonly extra?: Readonly<Record<string, readonly string[]>>
  }
  readonly status?: { readonly conditions?: readonly Condition[]; readonly certificate?: string }
}

const PATH = '/apis/certificates.k8s.io/v1/certificatesigningrequests'
const USAGES = ['digital signature', 'server auth', 'client auth']
const POD_UID = 'authentication.kubernetes.io/pod-uid'
/** The API server refuses to be asked for less; a signer may give less. */
const MIN_EXPIRATION_SECONDS = 600

export const askedSeconds = ({ lifetimeSeconds }: Pick<CsrApi, 'lifetimeSeconds'>): number =>
  Math.max(lifetimeSeconds, MIN_EXPIRATION_SECONDS)

const FIRST_POLL_MS = 50
const LONGEST_POLL_MS = 2_000
/** How the API server says: later. When a thousand sidecars ask at once it is no failure of any of them. */
const TOO_MANY_REQUESTS = 429

/**
 * Puts the request under the first free name from its slot on, or finds it there. Gives the slot it has.
 * @throws PosternError PSTN_API_UNAVAILABLE, PSTN_CSR_DENIED (at admission), PSTN_CSR_NAME_TAKEN, or while every name is
 * taken what this pod's latest request was refused with: a denial over and over must not look like a lack of names.
 */
export async function submit(api: CsrApi, pending: PendingRequest, signal: AbortSignal): Promise<number> {
  let latest: PosternError | undefined
  for (let tried = 0; tried < CSR_SLOTS; tried++) {
    const slot = (pending.slot + tried) % CSR_SLOTS
    const { granted, refusal } = await claim(api, { ...pending, slot }, signal)
    if (granted) return slot
    latest = refusal
  }
  const taken = `all ${CSR_SLOTS} names ${csrName(api.podUid, 0)} … are taken`
  if (latest) throw new PosternError(latest.code, `${latest.message}; ${taken}`, { cause: latest })
  throw new PosternError('PSTN_CSR_NAME_TAKEN', taken)
}

/** `refusal`: how an earlier request of this pod that holds the name was refused. */
type Claim = { readonly granted: boolean; readonly refusal?: PosternError | undefined }

/** Whether the name of the pending request's slot holds that very request now. */
async function claim(api: CsrApi, pending: PendingRequest, signal: AbortSignal): Promise<Claim> {
  const wanted = manifest(api, pending)
  const { name } = wanted.metadata
  try {
    await api.kube.create(PATH, wanted, signal)
    return { granted: true }
  } catch (thrown) {
    if (!isKubeError(thrown, 409)) throw apiFailure(thrown, name)
  }
  try {
    const holder = await get(api, name, signal)
    if (!isOurs(api, wanted, holder)) return { granted: false }
    const granted = holder.spec.request === wanted.spec.request
    return granted ? { granted } : { granted, refusal: refusalIn(name, holder.status) }
  } catch (thrown) {
    if (isKubeError(thrown, 404)) return { granted: false }
    throw apiFailure(thrown, name)
  }
}

const manifest = (api: CsrApi, { slot, request }: PendingRequest): CertificateSigningRequest => ({
  apiVersion: 'certificates.k8s.io/v1',
  kind: 'CertificateSigningRequest',
  metadata: { name: csrName(api.podUid, slot) },
  spec: {
    request: Buffer.from(request).toString('base64'),
    signerName: api.signerName,
    expirationSeconds: askedSeconds(api),
    usages: USAGES,
  },
})

const get = (api: CsrApi, name: string, signal: AbortSignal): Promise<CertificateSigningRequest> =>
  api.kube.get<CertificateSigningRequest>(`${PATH}/${name}`, signal)

/** Made by this pod for this signer. With another request in it, it is still of no use: its certificate fits no key we have. */
function isOurs(
  api: CsrApi,
  wanted: CertificateSigningRequest,
  { spec }: CertificateSigningRequest,
): boolean {
  return (
    spec.username === api.username &&
    spec.extra?.[POD_UID]?.join() === api.podUid &&
    spec.signerName === wanted.spec.signerName
  )
}

/**
 * The issued chain, as the signer wrote it: PEM, not checked.
 * @throws PosternError PSTN_CSR_DENIED or PSTN_CSR_FAILED with the reason, PSTN_CSR_TIMEOUT, PSTN_API_UNAVAILABLE
 */
export async function awaitAnswer(api: CsrApi, slot: number, signal: AbortSignal): Promise<string> {
  const name = csrName(api.podUid, slot)
  const deadline = api.clock.monotonic() + api.timeoutMs
  for (let wait = FIRST_POLL_MS; ; wait = Math.min(wait * 2, LONGEST_POLL_MS)) {
    const { status = {} } = await get(api, name, signal).catch((thrown): Answer => {
      if (isKubeError(thrown, TOO_MANY_REQUESTS)) return {}
      throw apiFailure(thrown, name)
    })
    const chain = answerOf(name, status)
    if (chain !== undefined) return chain
    if (api.clock.monotonic() + wait > deadline) {
      const approved = status.conditions?.some(({ type }) => type === 'Approved') ?? false
      const state = approved ? 'approved but not signed' : 'not approved'
      throw new PosternError('PSTN_CSR_TIMEOUT', `${name}: ${state} after ${api.timeoutMs} ms`)
    }
    await api.clock.sleep(wait, signal)
  }
}

type Answer = Pick<CertificateSigningRequest, 'status'>
type Status = NonNullable<Answer['status']>

function answerOf(name: string, status: Status): string | undefined {
  const refusal = refusalIn(name, status)
  if (refusal) throw refusal
  const { certificate } = status
  return certificate ? Buffer.from(certificate, 'base64').toString('utf8') : undefined
}

function refusalIn(name: string, { conditions = [] }: Status = {}): PosternError | undefined {
  for (const { type, reason, message } of conditions) {
    const code = type === 'Denied' ? 'PSTN_CSR_DENIED' : type === 'Failed' ? 'PSTN_CSR_FAILED' : undefined
    if (code) return new PosternError(code, `${name}: ${[reason, message].filter(Boolean).join(': ')}`)
  }
  return undefined
}

/** Admission policies answer 422; that is a denial, not an outage. */
function apiFailure(thrown: unknown, name: string): PosternError {
  const { message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
  const denied = thrown instanceof KubeError && (thrown.status === 400 || thrown.status === 422)
  const code = denied ? 'PSTN_CSR_DENIED' : 'PSTN_API_UNAVAILABLE'
  return new PosternError(code, `${name}: ${message}`, { cause: thrown })
}
