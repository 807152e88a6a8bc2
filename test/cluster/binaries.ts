// Finds or builds the programs of a real Kubernetes. KUBEBUILDER_ASSETS comes first; what it does not hold is built
// from the Go modules in binaries/ (pinned by their go.sum) into a cache whose key is everything that determines them.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, mkdir, mkdtemp, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findCommand, isExecutable } from '../support/requirements.ts'

const run = promisify(execFile)

type Module = {
  readonly folder: string
  readonly packages: Record<string, string>
  readonly ldflags: string
  /** With a C compiler. */
  readonly cgo?: boolean
}

const KUBERNETES_VERSION = { full: 'v1.36.3', major: '1', minor: '36' }

const MODULES: readonly Module[] = [
  {
    folder: 'etcd',
    packages: { etcd: 'go.etcd.io/etcd/server/v3' },
    ldflags: '',
  },
  {
    folder: 'kubernetes',
    packages: Object.fromEntries(
      ['kube-apiserver', 'kubectl', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy'].map(
        name => [name, `k8s.io/kubernetes/cmd/${name}`],
      ),
    ),
    ldflags: ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version']
      .flatMap(path => [
        `-X ${path}.gitVersion=${KUBERNETES_VERSION.full}`,
        `-X ${path}.gitMajor=${KUBERNETES_VERSION.major}`,
        `-X ${path}.gitMinor=${KUBERNETES_VERSION.minor}`,
      ])
      .join(' '),
  },
  {
    folder: 'containerd',
    packages: Object.fromEntries(
      ['containerd', 'containerd-shim-runc-v2', 'ctr'].map(name => [
        name,
        `github.com/containerd/containerd/v2/cmd/${name}`,
      ]),
    ),
    ldflags: '',
  },
  { folder: 'pause', packages: { pause: '.' }, ldflags: '' },
  { folder: 'coredns', packages: { coredns: 'github.com/coredns/coredns' }, ldflags: '' },
  { folder: 'spire', packages: { 'spire-agent': 'github.com/spiffe/spire/cmd/spire-agent' }, ldflags: '' },
  {
    folder: 'spire',
    packages: { 'spire-server': 'github.com/spiffe/spire/cmd/spire-server' },
    ldflags: '',
    cgo: true, // SQLite
  },
  { folder: 'spiffe-bundle', packages: { 'spiffe-bundle': '.' }, ldflags: '' },
  {
    folder: 'cert-manager',
    packages: { 'cert-manager-controller': 'github.com/cert-manager/cert-manager/cmd/controller' },
    ldflags: '',
  },
  { folder: 'h2spec', packages: { h2spec: 'github.com/summerwind/h2spec/cmd/h2spec' }, ldflags: '' },
]

/** Absolute path of the program `name`, from KUBEBUILDER_ASSETS or built; the first build may take minutes. */
export async function binary(name: string): Promise<string> {
  const asset = process.env.KUBEBUILDER_ASSETS && join(process.env.KUBEBUILDER_ASSETS, name)
  return asset && isExecutable(asset) ? asset : builtBinary(name)
}

/** Builds what the tests with an API server need, before the timeout of any of them runs: the first time takes minutes. */
export async function prepareApiServer(): Promise<void> {
  if (!findCommand('go')) return
  for (const name of ['etcd', 'kube-apiserver', 'kubectl', 'kube-controller-manager']) await binary(name)
}

/** The same with what the tests of the `kube` tier run beside an API server. */
export async function prepareKubeTier(): Promise<void> {
  await prepareApiServer()
  if (findCommand('go')) await builtBinary('cert-manager-controller')
}

/** As `binary`, always of the version pinned here: kubelet and API server have to fit each other. */
export async function builtBinary(name: string): Promise<string> {
  const module = MODULES.find(({ packages }) => name in packages)
  const path = module?.packages[name]
  if (!module || !path) throw new Error(`no Go module here builds ${name}`)
  const go = findCommand('go')
  if (!go) throw new Error(`no Go to build ${name} with`)
  const directory = join(cacheDirectory(), await cacheKey(go, module))
  const target = join(directory, name)
  if (isExecutable(target)) return target
  await mkdir(directory, { recursive: true })
  // Only to spare the machine a second build of the same: the rename alone keeps parallel callers whole.
  await using _lock = await lock(`${target}.lock`)
  if (!isExecutable(target)) await build(go, module, path, target)
  return target
}

/** Where Go keeps the sources of a module that one of the folders requires. */
export async function moduleDirectory(folder: string, path: string): Promise<string> {
  const go = findCommand('go')
  if (!go) throw new Error(`no Go to fetch ${path} with`)
  const cwd = join(import.meta.dirname, 'binaries', folder)
  await run(go, ['mod', 'download', path], { cwd })
  return (await run(go, ['list', '-m', '-f', '{{.Dir}}', path], { cwd })).stdout.trim()
}

/** In series: one Go build of Kubernetes fills a small machine. */
export async function builtBinaries<Name extends string>(...names: Name[]): Promise<Record<Name, string>> {
  const found: Partial<Record<Name, string>> = {}
  for (const name of names) found[name] = await builtBinary(name)
  return found as Record<Name, string>
}

export const cacheDirectory = (): string =>
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'postern')

const sourceOf = ({ folder }: Module) => join(import.meta.dirname, 'binaries', folder)

async function cacheKey(go: string, module: Module): Promise<string> {
  const source = sourceOf(module)
  const hash = createHash('sha256')
  for (const file of (await readdir(source)).sort()) hash.update(await readFile(join(source, file)))
  hash.update((await run(go, ['version'], { cwd: source })).stdout).update(module.ldflags)
  if (module.cgo) hash.update('cgo')
  return `${module.folder}-${hash.digest('hex').slice(0, 16)}`
}

async function build(go: string, module: Module, path: string, target: string): Promise<void> {
  console.error(`building ${path} (minutes the first time, seconds with a warm Go cache)`)
  const scratch = await mkdtemp(`${target}-`)
  try {
    const built = join(scratch, 'program')
    const flags = ['-trimpath', '-buildvcs=false', '-ldflags', `-s -w ${module.ldflags}`]
    await run(go, ['build', ...flags, '-o', built, path], {
      cwd: sourceOf(module),
      env: { ...process.env, CGO_ENABLED: module.cgo ? '1' : '0' },
      maxBuffer: 64 * 1024 * 1024,
    })
    await rename(built, target)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** Holds a lock file; that of a process that has ended is taken over. */
async function lock(path: string): Promise<AsyncDisposable> {
  for (;;) {
    try {
      const file = await open(path, 'wx')
      await file.writeFile(String(process.pid))
      await file.close()
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    if (!(await holderLives(path))) await rm(path, { force: true })
    await delay(500)
  }
}

async function holderLives(path: string): Promise<boolean> {
  const pid = Number(await readFile(path, 'utf8').catch(() => ''))
  // Empty: between creation and writing.
  if (pid === 0)
    return access(path).then(
      () => true,
      () => false,
    )
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
