// `postern ca rotate`: begins a rotation of the root, or tells one that runs not to wait for some pods. The leader does it,
// whether or not this program waits.
import { setTimeout as delay } from 'node:timers/promises'
import type { CaAnswer } from '../../shared/ca/record.ts'
import type { CaStatus } from '../../shared/ca/status.ts'
import { podText } from '../../shared/ca/texts.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { type Command, type CommandContext, UsageError } from '../command.ts'
import type { Output } from '../output.ts'
import { readStatus, request } from './requests.ts'
import { showStatus } from './shown.ts'

const POLL_MS = 2_000

export const caRotate: Command = {
  name: 'ca rotate',
  summary: 'Replaces the root without an interruption; goes on with a rotation that runs.',
  options: {
    skip: {
      type: 'string',
      multiple: true,
      help: 'a pod <namespace>/<name>, or <namespace>/*, that is not waited for: it loses the mesh until it learns the root (repeatable)',
    },
    issuer: { type: 'boolean', help: 'replace the issuer alone, at once; its root stays' },
    wait: { type: 'boolean', help: 'stay until the old root is dropped, and say what is waited for' },
  },
  run: async context => {
    const { out, signal, options } = context
    const skip = podsOf(context)
    if (options.issuer && (options.wait || skip.length > 0))
      throw new UsageError('--issuer waits for nobody: the new issuer signs at once')
    const kube = await context.kube()
    const answer = options.issuer
      ? await request(kube, { kind: 'rotate-issuer' }, signal)
      : await ask(kube, skip, signal)
    if (answer?.done === 'refused') throw new PosternError('PSTN_CA_REFUSED', answer.says)
    out.note(answer ? answer.says : 'a rotation runs already')
    const status = options.wait ? await rotated(kube, out, signal) : await readStatus(kube, signal)
    showStatus(out, status)
    return 0
  },
}

function podsOf({ args, options: { skip } }: CommandContext): string[] {
  if (args.length > 0) throw new UsageError(`ca rotate takes no argument ${args[0]}; is --skip missing?`)
  const pods = Array.isArray(skip) ? skip.map(String) : []
  try {
    for (const pod of pods) podText(pod, '--skip')
  } catch (thrown) {
    throw new UsageError(thrown instanceof Error ? thrown.message : String(thrown))
  }
  return pods
}

/** Nothing, where one runs and nothing is to be changed. */
async function ask(kube: Kube, skip: readonly string[], signal: AbortSignal): Promise<CaAnswer | undefined> {
  const { phase } = await readStatus(kube, signal)
  if (phase === 'idle') return request(kube, { kind: 'rotate', skip }, signal)
  if (skip.length > 0) return request(kube, { kind: 'skip', pods: skip }, signal)
  return undefined
}

/** It may take days: an API server that is away for a while is waited for. */
async function rotated(kube: Kube, out: Output, signal: AbortSignal): Promise<CaStatus> {
  for (let told = ''; ; ) {
    const status = await readStatus(kube, signal).catch((thrown: unknown) => {
      signal.throwIfAborted()
      return thrown instanceof Error ? thrown.message : String(thrown)
    })
    if (typeof status !== 'string' && status.phase === 'idle') return status
    const news = typeof status === 'string' ? [status] : newsOf(status)
    if (news.join() !== told) for (const line of news) out.note(line)
    told = news.join()
    await delay(POLL_MS, undefined, { signal })
  }
}

function newsOf({ phase, waitingFor, unconfirmed }: CaStatus): readonly string[] {
  const pods = unconfirmed.pods.map(({ pod, reason }) => `  ${pod}: ${reason}`)
  return [`${phase}: ${waitingFor.join('; ')}`, ...pods]
}
