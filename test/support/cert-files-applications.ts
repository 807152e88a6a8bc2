// The applications of docs/cert-files.md as the page has them, with the paths of a test in place of a pod's: nginx with its
// reload hook, and Node's server; and curl, as somebody who owns nothing but its mounts.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { CERT_FILES_DIR } from '../../shared/names.ts'
import { blocksOf } from './markdown.ts'
import type { Namespace } from './netns.ts'
import { findCommand } from './requirements.ts'
import { projectRoot } from './source-files.ts'

const page = blocksOf(readFileSync(join(projectRoot, 'docs/cert-files.md'), 'utf8'))
const MOUNTED_AT = '/etc/postern'

type Place = {
  readonly namespace: Namespace
  /** Of the test: read by whoever is root. */
  readonly directory: string
  /** The volume of the files. */
  readonly files: string
}

function shown(language: string, heading: string): string {
  const block = page.find(each => each.language === language && each.heading.startsWith(heading))
  if (!block) throw new Error(`docs/cert-files.md shows no ${language} under ${heading}`)
  return block.text
}

/** As the container's command would: the hook beside nginx. */
export function startNginx({ namespace, directory, files }: Place): void {
  const objects = parseAllDocuments(shown('yaml', 'nginx')).map(document => document.toJS())
  const placed = (text: string) => text.replaceAll(CERT_FILES_DIR, files).replaceAll(MOUNTED_AT, directory)
  for (const [name, text] of Object.entries<string>(objects[0].data))
    writeFileSync(join(directory, name), placed(text))
  // What the image has compiled in.
  const options = `-e ${directory}/error.log -g 'pid ${directory}/nginx.pid;'`
  const nginx = join(directory, 'nginx')
  writeFileSync(nginx, `#!/bin/sh\nexec ${findCommand('nginx')} ${options} "$@"\n`)
  chmodSync(nginx, 0o755)
  const [{ command }] = objects[1].spec.template.spec.containers
  const [shell, ...args] = command.map(placed)
  const env = { PATH: `${directory}:${process.env.PATH}` }
  namespace.spawn(shell, args, { env, stdio: ['ignore', 'ignore', 'inherit'] })
}

export function startNode({ namespace, directory, files }: Place): void {
  const module = join(directory, 'server.mjs')
  writeFileSync(module, shown('js', 'Node').replaceAll(CERT_FILES_DIR, files))
  namespace.spawn(process.execPath, [module], { uid: 1000, stdio: ['ignore', 'ignore', 'inherit'] })
}

export type Asked = {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** In the directory of the generation that is in force, as a user without any right of its own. */
export function curl(namespace: Namespace, files: string, ...args: readonly string[]): Promise<Asked> {
  const user = ['--reuid=1000', '--regid=1000', '--clear-groups', '--bounding-set=-all', '--inh-caps=-all']
  const script = 'cd "$0/$(readlink "$0/..data")" && exec curl --silent --show-error --max-time 10 "$@"'
  return namespace.run('setpriv', [...user, 'sh', '-c', script, files, ...args])
}

/** What a caller with files gives curl. */
export const AS_WORKLOAD = ['--cert', 'tls.crt', '--key', 'tls.key', '--cacert', 'ca.crt'] as const
