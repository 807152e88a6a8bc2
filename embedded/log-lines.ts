// The lines that a process logs, kept, and waited for.
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'

export type LogLine = { readonly msg: string; readonly [field: string]: unknown }

export type LogLines = {
  /** All so far. */
  readonly lines: readonly LogLine[]
  /** The first matching line, past or future. @throws when there is none within `ms`. */
  line(matches: (line: LogLine) => boolean, ms?: number): Promise<LogLine>
}

const WAIT_MS = 5_000

export function followLines({ stdout }: ChildProcess): LogLines {
  const lines: LogLine[] = []
  const waiting = new Set<(line: LogLine) => void>()
  if (stdout)
    createInterface(stdout).on('line', text => {
      const line: LogLine = JSON.parse(text)
      lines.push(line)
      for (const offer of waiting) offer(line)
    })
  return {
    lines,
    line: (matches, ms = WAIT_MS) => {
      const past = lines.find(matches)
      if (past) return Promise.resolve(past)
      const { promise, resolve, reject } = Promise.withResolvers<LogLine>()
      const timer = setTimeout(
        () => reject(new Error(`the sidecar did not log what was expected within ${ms} ms`)),
        ms,
      )
      const offer = (line: LogLine) => {
        if (matches(line)) resolve(line)
      }
      waiting.add(offer)
      return promise.finally(() => {
        clearTimeout(timer)
        waiting.delete(offer)
      })
    },
  }
}
