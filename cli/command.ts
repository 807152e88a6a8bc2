// What a command of `postern` is. Each is one file in its group's folder; main.ts finds it by its words.
import type { Kube } from '../shared/kube/rest.ts'
import type { Cluster } from './kubeconfig.ts'
import type { Output } from './output.ts'

/** Of `node:util` parseArgs. */
export type Option = {
  readonly type: 'string' | 'boolean'
  readonly multiple?: boolean
  /** One line for `--help`. */
  readonly help: string
}

export type Command = {
  /** As typed, for example `ca rotate`. */
  readonly name: string
  /** Names of arguments for `--help`, for example `<pod|identity|serial>`. */
  readonly usage?: string
  /** One line. */
  readonly summary: string
  readonly options?: Readonly<Record<string, Option>>
  /**
   * Prints its answer. Resolves to the exit code: 0 done, 1 the answer is bad news (`check`, `test`).
   * @throws UsageError (exit 2), or any other error (exit 1, printed as one line)
   */
  run(context: CommandContext): Promise<number>
}

export type CommandContext = {
  readonly args: readonly string[]
  readonly options: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>
  readonly out: Output
  /** What the caller's `--kubeconfig` and `--context` say. */
  readonly cluster: Cluster
  /** Connects with the caller's kubeconfig at first use. @throws PosternError PSTN_CONFIG_INVALID */
  kube(): Promise<Kube>
  /** Aborts at Ctrl-C. */
  readonly signal: AbortSignal
}

/** What was typed makes no sense: the message says what would. */
export class UsageError extends Error {}
