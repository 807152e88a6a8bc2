// The volume of `postern.dev/cert-files`: all files change in one moment, as the kubelet's own volumes do. Each generation is
// a directory; `..data` is a symlink to the one in force, and the names that programs open are symlinks through it. One
// rename of `..data` is the change, so that whatever interrupts leaves the former generation in force.
//
// The former directory stays until the next change: a program that opens key and chain one after the other gets both of one
// generation if it resolves `..data` once. Everybody may read (0444), because the containers' users are not known here and
// only a mount lets anybody come near.
import {
  chmod,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { basename, join } from 'node:path'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { Files } from './layout.ts'

const DATA = '..data'
const NEXT_DATA = '..data_tmp'
/** What the names of directories begin with, and no file's does. */
const HIDDEN = '..'

export type Generation = {
  /** Its directory's name: another one for each change. */
  readonly directory: string
  readonly files: Files
}

export type CertVolume = {
  /** Undefined before the first, or if what is there is not whole. */
  current(): Promise<Generation | undefined>
  /** @throws PosternError PSTN_CERT_FILES_UNWRITTEN; what was in force stays. */
  swap(files: Files, now: Date): Promise<Generation>
  /** Removes what is not in force. @throws PosternError PSTN_CERT_FILES_UNWRITTEN */
  tidy(): Promise<void>
}

export function certVolume(root: string): CertVolume {
  const at = (...names: string[]) => join(root, ...names)

  const current = async (): Promise<Generation | undefined> => {
    try {
      const directory = await readlink(at(DATA))
      if (directory !== basename(directory)) return undefined
      const names = await readdir(at(directory))
      const texts = names.map(async name => [name, await readFile(at(directory, name), 'utf8')] as const)
      const files = Object.fromEntries(await Promise.all(texts))
      for (const name of names) if (!(await leads(name))) return undefined
      return { directory, files }
    } catch {
      return undefined
    }
  }

  const leads = async (name: string): Promise<boolean> =>
    (await readlink(at(name)).catch(() => undefined)) === join(DATA, name)

  const tidy = async (): Promise<void> => {
    const directory = await readlink(at(DATA)).catch(() => undefined)
    const kept = [DATA, directory]
    for (const name of await readdir(root)) {
      const dangles = !name.startsWith(HIDDEN) && !(await isThere(at(name)))
      if (dangles || (name.startsWith(HIDDEN) && !kept.includes(name)))
        await rm(at(name), { recursive: true, force: true })
    }
  }

  const write = async (files: Files, now: Date): Promise<Generation> => {
    await tidy()
    const path = await mkdtemp(
      at(
        `${HIDDEN}${now
          .toISOString()
          .slice(0, 19)
          .replaceAll(/[^0-9]/g, '_')}.`,
      ),
    )
    const directory = basename(path)
    try {
      for (const [name, text] of Object.entries(files)) {
        await writeFile(join(path, name), text, { flag: 'wx' })
        await chmod(join(path, name), 0o444) // whatever the umask
      }
      await chmod(path, 0o755)
      for (const name of Object.keys(files)) if (!(await leads(name))) await link(name)
      await symlink(directory, at(NEXT_DATA))
      await rename(at(NEXT_DATA), at(DATA))
    } catch (thrown) {
      await rm(path, { recursive: true, force: true })
      throw thrown
    }
    return { directory, files }
  }

  const link = async (name: string): Promise<void> => {
    await rm(at(name), { recursive: true, force: true })
    await symlink(join(DATA, name), at(name))
  }

  return {
    current,
    swap: (files, now) => write(files, now).catch(refuse(root)),
    tidy: () => tidy().catch(refuse(root)),
  }
}

/** Through symlinks. */
const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

const refuse =
  (root: string) =>
  (cause: unknown): never => {
    const { message } = asPosternError(cause, 'PSTN_CERT_FILES_UNWRITTEN')
    throw new PosternError('PSTN_CERT_FILES_UNWRITTEN', `${root}: ${message}`, { cause })
  }
