// `postern ca revoke-root`: for a root whose key is lost or stolen. What that costs depends on the root, so that it is said
// before it is done; and it is done when nothing publishes the root any more, not when somebody has promised so.
import { setTimeout as delay } from 'node:timers/promises'
import type { CaStatus, LingeringRoot } from '../../shared/ca/status.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Command, UsageError } from '../command.ts'
import { readStatus, request } from './requests.ts'
import { showStatus } from './shown.ts'

export const caRevokeRoot: Command = {
  name: 'ca revoke-root',
  usage: '<fingerprint>',
  summary: 'Trusts a root no more, at once: for a key that is lost or stolen.',
  options: { yes: { type: 'boolean', help: 'do it: without, it is only said what would happen' } },
  run: async context => {
    const { args, options, out, signal } = context
    const [typed, ...more] = args
    if (!typed || more.length > 0)
      throw new UsageError('name one root by its fingerprint: see postern ca status')
    const kube = await context.kube()
    const status = await readStatus(kube, signal)
    const { fingerprint, cost } = costOf(status, typed)
    if (!options.yes) {
      out.note(`${cost} Nothing was done: add --yes.`)
      return 1
    }
    const answer = await request(kube, { kind: 'revoke-root', fingerprint }, signal)
    if (answer.done === 'refused') throw new PosternError('PSTN_CA_REFUSED', answer.says)
    const after = await withoutRoot(kube, fingerprint, signal)
    showStatus(out, after)
    const left = lingering(after, fingerprint)
    if (left.length === 0) {
      out.note(answer.says)
      return 0
    }
    for (const { where } of left) out.note(`NOT done: ${where} holds the root still, and so it is trusted.`)
    out.note('The leader goes on trying: its log says why. Look again with postern ca status.')
    return 1
  },
}

const POLL_MS = 500
/** The leader publishes within a second. */
const PATIENCE_MS = 20_000

/** The status once nothing publishes the root any more, or as it is when patience ends. */
async function withoutRoot(kube: Kube, fingerprint: string, signal: AbortSignal): Promise<CaStatus> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    const status = await readStatus(kube, signal)
    if (lingering(status, fingerprint).length === 0 || performance.now() > deadline) return status
    await delay(POLL_MS, undefined, { signal })
  }
}

const lingering = (status: CaStatus, fingerprint: string): readonly LingeringRoot[] =>
  (status.lingering ?? []).filter(one => one.fingerprint === fingerprint)

/** As typed: the whole fingerprint, in any form that tools print, or the beginning of one. */
const SHORTEST = 12

function costOf(
  { root, next, retired, former }: CaStatus,
  typed: string,
): { fingerprint: string; cost: string } {
  const wanted = typed.replaceAll(':', '').toLowerCase()
  const is = ({ fingerprint }: { readonly fingerprint: string }) =>
    wanted.length >= SHORTEST && fingerprint.startsWith(wanted)
  if (is(root)) {
    const successor = next ? 'The next root' : 'A new root'
    const cost =
      `Root ${root.fingerprint} signs every certificate in use. ${successor} takes its place at once: ` +
      'every connection through the mesh ends, and new ones are refused until both pods have another certificate, ' +
      'within seconds while the API server and the injector answer.'
    return { fingerprint: root.fingerprint, cost }
  }
  if (next && is(next))
    return {
      fingerprint: next.fingerprint,
      cost: 'The next root signs nothing yet: the rotation is given up.',
    }
  const old = retired.find(is)
  if (old) {
    const cost =
      'Connections of pods whose certificate is still under the old root end, and are refused until they have another one.'
    return { fingerprint: old.fingerprint, cost }
  }
  const gone = former.find(known => known.end === 'retired' && is(known))
  if (gone)
    return {
      fingerprint: gone.fingerprint,
      cost: `It has not been trusted since ${gone.at}: connections from before that live still end.`,
    }
  const known = [root, ...(next ? [next] : []), ...retired].map(({ fingerprint }) => fingerprint)
  throw new UsageError(`no root has the fingerprint ${typed}; there are ${known.join(', ')}`)
}
