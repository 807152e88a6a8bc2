// Hands the rules to `nft`, which loads them in one transaction: all or nothing.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { PosternError } from '../../shared/errors.ts'

/** @throws PosternError PSTN_INTERCEPTION with what nft said and what is probably missing. */
export async function applyRules(rules: string, nft = 'nft'): Promise<void> {
  const child = spawn(nft, ['-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] })
  const started = once(child, 'spawn')
  const exited = once(child, 'close')
  exited.catch(() => {})
  try {
    await started
  } catch (cause) {
    throw new PosternError('PSTN_INTERCEPTION', `${nft} cannot be started: is nftables in the image?`, {
      cause,
    })
  }
  // A child that dies early breaks the pipe; its exit status says why.
  child.stdin.on('error', () => {})
  child.stdin.end(rules)
  const [stderr, [status]] = await Promise.all([text(child.stderr), exited])
  if (status === 0) return
  throw new PosternError(
    'PSTN_INTERCEPTION',
    `nft exited ${status}: ${stderr.trim()} (${likelyCause(stderr)})`,
  )
}

/** The hint that fits what nft wrote; pure. */
export function likelyCause(stderr: string): string {
  if (/operation not permitted|you must be root/i.test(stderr))
    return 'run as uid 0 with the capability NET_ADMIN'
  if (/not supported|unable to initialize netlink/i.test(stderr)) return 'the kernel lacks nf_tables'
  if (/no such file or directory/i.test(stderr)) return 'the kernel lacks nft_nat, nft_redir or nft_fib_inet'
  return 'see nft(8)'
}
