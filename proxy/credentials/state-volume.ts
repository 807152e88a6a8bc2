// What the sidecar keeps over a restart: its certificate and key, a request under way, the trust bundle, the last state,
// the addresses that it knows and which certificate files the application was told of, so that a restart during an outage costs nothing. A memory-backed volume that only the
// sidecar mounts; a file is whole or absent (rename is atomic), and a damaged one counts as absent.
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PosternError } from '../../shared/errors.ts'

export type StateFile =
  | 'credential.json'
  | 'pending.json'
  | 'trust.json'
  | 'state.json'
  | 'addresses.json'
  | 'cert-files.json'

export type StateVolume = {
  /** The parsed JSON, or undefined, after the changes that were asked for before. The caller checks its shape. */
  read(file: StateFile): Promise<unknown>
  /** Never fails: what cannot be kept is reported, and still used while the process lives. */
  write(file: StateFile, value: unknown): Promise<void>
  remove(file: StateFile): Promise<void>
}

export function openStateVolume(dir: string, report: (error: PosternError) => void): StateVolume {
  /** The last change of each file: writers of one file take turns. */
  const turns = new Map<StateFile, Promise<void>>()

  const inTurn = (file: StateFile, change: () => Promise<void>): Promise<void> => {
    const done = (turns.get(file) ?? Promise.resolve()).then(change).catch(cause => {
      const reason = cause instanceof Error ? cause.message : String(cause)
      report(new PosternError('PSTN_STATE_UNSAVED', `${file}: ${reason}`, { cause }))
    })
    turns.set(file, done)
    return done
  }

  return {
    read: async file => {
      await turns.get(file)
      try {
        return JSON.parse(await readFile(join(dir, file), 'utf8'))
      } catch {
        return undefined
      }
    },
    write: (file, value) =>
      inTurn(file, async () => {
        const unfinished = join(dir, `.${file}`)
        await rm(unfinished, { force: true })
        await writeFile(unfinished, JSON.stringify(value), { mode: 0o600, flag: 'wx' })
        await rename(unfinished, join(dir, file))
      }),
    remove: file => inTurn(file, () => rm(join(dir, file), { force: true })),
  }
}
