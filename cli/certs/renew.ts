// `postern certs renew`: sidecars ask for new certificates before the time, spread over a while so that the API server and
// the signer are not asked by all of them at once. Nothing that is open is disturbed.
import { MAX_WITHIN_SECONDS, type RenewalOrder } from '../../shared/renewal-order.ts'
import { whoAmI } from '../caller.ts'
import { type Command, UsageError } from '../command.ts'
import { changeOrders } from './orders.ts'
import { findPod, podOf } from './subject.ts'

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 }
const DEFAULT_WITHIN = { all: 600, pod: 0 } as const

export const certsRenew: Command = {
  name: 'certs renew',
  usage: '<namespace/pod> | --all',
  summary: 'Lets sidecars renew their certificates now, spread over a time.',
  options: {
    all: { type: 'boolean', help: 'every sidecar of the mesh' },
    within: { type: 'string', help: 'how long it may take, such as 90s, 10m (the default of --all) or 2h' },
  },
  run: async ({ args, options, out, kube: connect, signal }) => {
    const [written, ...more] = args
    if (more.length > 0 || (written === undefined) === (options.all !== true)) {
      throw new UsageError('name one pod as <namespace>/<pod>, or --all')
    }
    const target = written === undefined ? undefined : podOf(written)
    if (written !== undefined && !target) {
      throw new UsageError(`${JSON.stringify(written)} is no pod: write <namespace>/<pod>`)
    }
    const withinSeconds = secondsOf(options.within) ?? DEFAULT_WITHIN[target ? 'pod' : 'all']
    const kube = await connect()
    const now = Date.now()
    const ordered = { before: new Date(now).toISOString(), withinSeconds, by: await whoAmI(kube, signal) }
    const order: RenewalOrder = target
      ? { ...target, uid: (await findPod(kube, target, signal)).uid, ...ordered }
      : { kind: 'all', ...ordered }
    await changeOrders(
      kube,
      orders => ({
        ...orders,
        renewals: [...orders.renewals.filter(other => !contains(order, other)), order],
      }),
      now,
      signal,
    )
    if (out.json) out.document(order)
    else out.line(`${target ? written : 'every sidecar'} renews within ${withinSeconds} s`)
    out.note(
      'Who cannot reach an injector hears of it later. Certificates from files or a Workload API are not ours to renew.',
    )
    return 0
  },
}

/** The later order does what the former would. */
const contains = (order: RenewalOrder, former: RenewalOrder): boolean =>
  order.kind === 'all' || (former.kind === 'pod' && former.uid === order.uid)

/** @throws UsageError */
function secondsOf(within: unknown): number | undefined {
  if (within === undefined) return undefined
  const [, count, unit = ''] = /^(\d+)([smh])$/.exec(String(within)) ?? []
  const seconds = Number(count) * (UNIT_SECONDS[unit] ?? Number.NaN)
  if (seconds <= MAX_WITHIN_SECONDS) return seconds
  throw new UsageError(`--within ${within}: write a time such as 90s, 10m or 2h, at most 7 days (168h)`)
}
