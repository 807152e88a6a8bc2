// Writes a volume as the kubelet and CSI drivers do: into a new directory, which a symlink then points to by one rename.
// Readers see all files of before or all of after, never a mixture; the old directory is gone a moment later.
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export type Files = Readonly<Record<string, string>>

let made = 0

export function writeAtomically(volume: string, files: Files): void {
  made += 1
  const directory = `..2026_11_21_${made}`
  const former = readdirSync(volume).filter(name => name.startsWith('..2026'))
  mkdirSync(join(volume, directory))
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(volume, directory, name), text)
    if (!exists(join(volume, name))) symlinkSync(join('..data', name), join(volume, name))
  }
  symlinkSync(directory, join(volume, '..data_tmp'))
  renameSync(join(volume, '..data_tmp'), join(volume, '..data'))
  for (const name of former) rmSync(join(volume, name), { recursive: true })
}

const exists = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined
