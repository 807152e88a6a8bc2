// Container images made of what the machine has, with buildah and without a registry: a base from the Node that npm
// installed, nft and busybox; on it the images of the two Dockerfiles and the test's applications. Each image is kept as
// an archive whose name holds the hash of what went in.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { buildBundles } from '../../deploy/build.ts'
import { PROXY_UID } from '../../shared/ports.ts'
import { run } from '../support/processes.ts'
import { findCommand, isExecutable } from '../support/requirements.ts'
import { projectRoot } from '../support/source-files.ts'
import { builtBinary, cacheDirectory } from './binaries.ts'
import { must } from './sandbox.ts'

export const PAUSE_IMAGE = 'localhost/pause:test'
const PROXY_IMAGE = 'localhost/postern-proxy:test'
const INJECTOR_IMAGE = 'localhost/postern-injector:test'
/** The programs of apps/, each a plain Node script: `node /apps/NAME.ts`. */
export const APPS_IMAGE = 'localhost/postern-apps:test'
/** The names under which the manifests of deploy/ ask for them. */
export const IMAGES_AS_DEPLOYED = {
  [PROXY_IMAGE]: 'docker.io/postern/proxy:dev',
  [INJECTOR_IMAGE]: 'docker.io/postern/injector:dev',
}
const BASE_IMAGE = 'localhost/postern-base'

type Recipe = {
  readonly image: string
  readonly dockerfile: string
  /** Files that determine the image, and are all that its Dockerfile may copy: path in the context → path here. */
  readonly files: Readonly<Record<string, string>>
}

/** Paths of docker archives, ready to be imported. */
export async function imageArchives(): Promise<string[]> {
  await using scratch = await temporaryDirectory()
  await buildBundles(scratch.path)
  const base = await baseImage()
  const recipes: Recipe[] = [
    { image: PAUSE_IMAGE, dockerfile: PAUSE_DOCKERFILE, files: { pause: await builtBinary('pause') } },
    await ownRecipe(PROXY_IMAGE, 'proxy', scratch.path),
    await ownRecipe(INJECTOR_IMAGE, 'injector', scratch.path),
    await appsRecipe(),
  ]
  const archives: string[] = []
  for (const recipe of recipes) archives.push(await archive(recipe, base))
  return archives
}

const PAUSE_DOCKERFILE = `FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
`

const APPS_DOCKERFILE = `ARG BASE
FROM \${BASE}
COPY . /apps/
USER 1000:1000
`

async function ownRecipe(image: string, name: string, bundles: string): Promise<Recipe> {
  return {
    image,
    dockerfile: await readFile(join(projectRoot, `Dockerfile.${name}`), 'utf8'),
    files: {
      [`dist/${name}.mjs`]: join(bundles, `${name}.mjs`),
      'deploy/images/entrypoint.sh': join(projectRoot, 'deploy/images/entrypoint.sh'),
    },
  }
}

async function appsRecipe(): Promise<Recipe> {
  const directory = join(import.meta.dirname, 'apps')
  const names = (await readdir(directory)).filter(name => name.endsWith('.ts'))
  return {
    image: APPS_IMAGE,
    dockerfile: APPS_DOCKERFILE,
    files: Object.fromEntries(names.map(name => [name, join(directory, name)])),
  }
}

async function archive(recipe: Recipe, base: string): Promise<string> {
  const { image, dockerfile, files } = recipe
  const short = basename(image).replace(':', '-')
  const target = join(imageDirectory(), `${short}-${await keyOf([dockerfile, base], files)}.tar`)
  if ((await readdir(imageDirectory())).includes(basename(target))) return target
  await using context = await temporaryDirectory()
  await copyInto(context.path, files)
  await writeFile(join(context.path, 'Dockerfile'), dockerfile)
  // Somebody else may be building the same, of this source or of another.
  const mine = `${image}-${process.pid}`
  const unfinished = `${target}.${process.pid}`
  await bud(context.path, mine, `--build-arg=BASE=${base}`)
  await buildah('push', mine, `docker-archive:${unfinished}:${image}`)
  await buildah('rmi', mine)
  for (const old of await readdir(imageDirectory()))
    if (old.startsWith(`${short}-`) && old.endsWith('.tar'))
      await rm(join(imageDirectory(), old), { force: true })
  await rename(unfinished, target)
  return target
}

/** Builds the base unless it is there, and returns its name. */
export async function baseImage(): Promise<string> {
  await mkdir(imageDirectory(), { recursive: true })
  const programs = {
    'usr/local/bin/node': await realpath(process.execPath),
    'usr/sbin/nft': required('nft'),
    'bin/busybox': required('busybox'),
  }
  const files = { ...programs, ...(await librariesOf(Object.values(programs))) }
  const name = `${BASE_IMAGE}:${await keyOf([BASE_DOCKERFILE], files)}`
  if ((await run('buildah', [...storage(), 'inspect', '--type=image', name])).code === 0) return name
  await using context = await temporaryDirectory()
  const root = join(context.path, 'root')
  await copyInto(root, files)
  const { stdout } = await must(required('busybox'), ['--list'])
  for (const applet of stdout.trim().split('\n'))
    if (applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet))
  await mkdir(join(root, 'etc'))
  await mkdir(join(root, 'tmp'))
  await chmod(join(root, 'tmp'), 0o1777)
  const users = { root: 0, app: 1000, postern: PROXY_UID }
  const lines = (line: (name: string, id: number) => string) =>
    Object.entries(users).map(([user, id]) => `${line(user, id)}\n`)
  await writeFile(join(root, 'etc/passwd'), lines((user, id) => `${user}:x:${id}:${id}::/:/bin/sh`).join(''))
  await writeFile(join(root, 'etc/group'), lines((user, id) => `${user}:x:${id}:`).join(''))
  await writeFile(join(context.path, 'Dockerfile'), BASE_DOCKERFILE)
  await bud(context.path, name)
  return name
}

const BASE_DOCKERFILE = `FROM scratch
COPY root /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
`

/** What the dynamic loader would load, under the paths at which it looks. */
async function librariesOf(programs: readonly string[]): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const program of programs) {
    // Exit code 1: a static program.
    const { stdout } = await run('ldd', [program])
    for (const [, path = ''] of stdout.matchAll(/(\/\S+)(?= \(0x)/g)) found[path.slice(1)] = path
  }
  return found
}

async function copyInto(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, source] of Object.entries(files)) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await copyFile(source, join(root, path))
    if (isExecutable(source)) await chmod(join(root, path), 0o755)
  }
}

async function keyOf(texts: readonly string[], files: Readonly<Record<string, string>>): Promise<string> {
  const hash = createHash('sha256').update(texts.join('\0'))
  for (const path of Object.keys(files).sort()) {
    hash.update(`\0${path}\0`)
    for await (const chunk of createReadStream(files[path] ?? '')) hash.update(chunk)
  }
  return hash.digest('hex').slice(0, 16)
}

const bud = (context: string, image: string, ...options: string[]) =>
  buildah('bud', '--isolation=chroot', '--layers=false', ...options, `--tag=${image}`, context)

const buildah = (...args: string[]) => must('buildah', [...storage(), ...args])

/** Its own store: the machine's images stay as they are. */
export const buildahStore = () => ({
  root: join(imageDirectory(), 'storage'),
  runroot: join(imageDirectory(), 'run'),
})

function storage(): string[] {
  const { root, runroot } = buildahStore()
  return [`--root=${root}`, `--runroot=${runroot}`]
}

const imageDirectory = () => join(cacheDirectory(), 'images')

function required(name: string): string {
  const path = findCommand(name)
  if (!path) throw new Error(`${name} is not installed`)
  return path
}

async function temporaryDirectory(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'postern-image-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}
