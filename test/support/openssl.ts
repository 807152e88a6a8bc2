// OpenSSL's command line as the second opinion on everything that shared/x509 and the CA write and read.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { requireCommands } from './requirements.ts'

export const requireOpenssl = () => requireCommands('openssl')

/** Runs it with `files` in the working directory. @throws if it exits other than 0. */
export function openssl(
  args: readonly string[],
  { input = '', files = {} }: { input?: string | Buffer; files?: Readonly<Record<string, string>> } = {},
): Buffer {
  const cwd = mkdtempSync(join(tmpdir(), 'postern-openssl-'))
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(cwd, name), text, { mode: 0o600 })
    return execFileSync('openssl', args, { cwd, input, stdio: ['pipe', 'pipe', 'pipe'] })
  } finally {
    rmSync(cwd, { recursive: true, force: true })
  }
}
