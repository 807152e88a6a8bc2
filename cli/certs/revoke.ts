// `postern certs revoke`: a certificate, an identity or a pod is refused everywhere from now on, whatever vouches for it.
import { PosternError } from '../../shared/errors.ts'
import { isInForce, isoTime, type Revocation } from '../../shared/revocation-list.ts'
import { whoAmI } from '../caller.ts'
import { type Command, type CommandContext, UsageError } from '../command.ts'
import { changeOrders, LONGEST_LIFE_MS, readOrders } from './orders.ts'
import { findPod, lacksAccount, parseSubject, type Subject } from './subject.ts'

export const certsRevoke: Command = {
  name: 'certs revoke',
  usage: '[<namespace/pod> | <spiffe id> | <serial>]',
  summary: 'Refuses a pod, an identity or a certificate everywhere; without one, shows who is revoked.',
  options: {
    reason: { type: 'string', help: 'why, for whoever reads the list later' },
    until: { type: 'string', help: 'lift it by itself at this time; of a certificate best its notAfter' },
    undo: { type: 'boolean', help: 'lift it' },
  },
  run: async context => {
    const [written, ...more] = context.args
    if (more.length > 0) throw new UsageError('name one pod, identity or serial')
    if (written === undefined) return show(context)
    const subject = parseSubject(written)
    return context.options.undo ? lift(context, subject, written) : revoke(context, subject)
  },
}

async function show({ kube, out, signal }: CommandContext): Promise<number> {
  const { revocations } = await readOrders(await kube(), signal)
  const inForce = revocations.filter(entry => isInForce(entry, Date.now()))
  if (out.json) out.document(inForce)
  else if (inForce.length === 0) out.line('nobody is revoked')
  else {
    const rows = inForce.map(entry => [
      entry.kind,
      nameOf(entry),
      entry.since,
      entry.until ?? '',
      entry.by,
      entry.reason,
    ])
    out.table(['KIND', 'WHO', 'SINCE', 'UNTIL', 'BY', 'REASON'], rows)
  }
  return 0
}

async function revoke(context: CommandContext, subject: Subject): Promise<number> {
  const { options, out, signal } = context
  const kube = await context.kube()
  const now = Date.now()
  const noted = {
    since: new Date(now).toISOString(),
    ...untilOf(options.until, subject, now),
    reason: typeof options.reason === 'string' ? options.reason : '',
    by: await whoAmI(kube, signal),
  }
  const entry = await entryOf(context, subject, noted)
  await changeOrders(
    kube,
    orders => ({
      ...orders,
      revocations: [...orders.revocations.filter(other => !isSame(other, entry)), entry],
    }),
    now,
    signal,
  )
  if (out.json) out.document(entry)
  else out.line(`revoked: ${entry.kind} ${nameOf(entry)}${entry.until ? `, until ${entry.until}` : ''}`)
  out.note(
    'Sidecars that reach an injector refuse it within a second; those that do not, once they reach one.',
  )
  return 0
}

type Noted = Pick<Revocation, 'since' | 'until' | 'reason' | 'by'>

async function entryOf(context: CommandContext, subject: Subject, noted: Noted): Promise<Revocation> {
  const { out, signal } = context
  const kube = await context.kube()
  switch (subject.kind) {
    case 'serial':
      return { ...subject, ...noted }
    case 'identity':
      if (await lacksAccount(kube, subject.identity, signal)) {
        out.note('There is no such service account in this cluster: is it spelt right?')
      }
      return { ...subject, ...noted }
    case 'pod': {
      const { uid, unnamed } = await findPod(kube, subject, signal)
      if (unnamed) {
        const instead = 'do not say whose they are and stay good: revoke their serials, or the identity'
        out.note(
          `The pod gets no directory and no new certificate, but those that it has (${unnamed}) ${instead}.`,
        )
      }
      return { ...subject, uid, ...noted }
    }
  }
}

/** A certificate cannot outlive the longest life that one may have: its entry need not either. */
function untilOf(until: unknown, { kind }: Subject, now: number): { readonly until?: string } {
  if (until === undefined) {
    return kind === 'serial' ? { until: new Date(now + LONGEST_LIFE_MS).toISOString() } : {}
  }
  const time = Date.parse(isoOrUsage(until))
  if (time <= now) throw new UsageError(`--until ${until} is over`)
  return { until: new Date(time).toISOString() }
}

function isoOrUsage(until: unknown): string {
  try {
    return isoTime(until, '--until')
  } catch (thrown) {
    throw new UsageError(thrown instanceof Error ? thrown.message : String(thrown))
  }
}

async function lift(context: CommandContext, subject: Subject, written: string): Promise<number> {
  const { out, signal } = context
  let lifted: readonly Revocation[] = []
  await changeOrders(
    await context.kube(),
    orders => {
      lifted = orders.revocations.filter(entry => isMeant(entry, subject))
      if (lifted.length === 0) throw new PosternError('PSTN_CONFIG_INVALID', `${written} is not revoked`)
      return { ...orders, revocations: orders.revocations.filter(entry => !lifted.includes(entry)) }
    },
    Date.now(),
    signal,
  )
  if (out.json) out.document(lifted)
  else for (const entry of lifted) out.line(`lifted: ${entry.kind} ${nameOf(entry)}, revoked ${entry.since}`)
  return 0
}

/** Each pod of that name: the one that was revoked may be gone. */
function isMeant(entry: Revocation, subject: Subject): boolean {
  switch (subject.kind) {
    case 'serial':
      return entry.kind === 'serial' && entry.serial === subject.serial
    case 'identity':
      return entry.kind === 'identity' && entry.identity === subject.identity
    case 'pod':
      return entry.kind === 'pod' && entry.namespace === subject.namespace && entry.name === subject.name
  }
}

const isSame = (a: Revocation, b: Revocation): boolean => a.kind === b.kind && keyOf(a) === keyOf(b)

function keyOf(entry: Revocation): string {
  switch (entry.kind) {
    case 'serial':
      return entry.serial
    case 'identity':
      return entry.identity
    case 'pod':
      return entry.uid
  }
}

const nameOf = (entry: Revocation): string =>
  entry.kind === 'pod' ? `${entry.namespace}/${entry.name} (${entry.uid})` : keyOf(entry)
