// What a test needs from the machine. A missing requirement is a loud skip reason; with CI=true it is a failure.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Path of `name` in PATH or the system administrator's directories, where nft and conntrack live. */
export function findCommand(name: string): string | undefined {
  const directories = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/sbin',
    '/usr/local/go/bin',
  ]
  return directories.map(directory => join(directory, name)).find(isExecutable)
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** `false` when met, else the skip reason: for `t.test(name, { skip: requireRoot() }, …)`. */
export type Skip = string | false

export const requireRoot = (): Skip => unless(process.getuid?.() === 0, 'needs root')

export const requireLinux = (): Skip => unless(process.platform === 'linux', 'needs Linux')

/** A real API server: prebuilt (KUBEBUILDER_ASSETS) or built from Go modules. */
export const requireApiServer = (): Skip =>
  unless(
    process.env.KUBEBUILDER_ASSETS !== undefined || findCommand('go') !== undefined,
    'needs Go, or KUBEBUILDER_ASSETS with etcd, kube-apiserver and kubectl',
  )

export const requireGo = (): Skip => unless(findCommand('go') !== undefined, 'needs Go')

export function requireCommands(...names: string[]): Skip {
  const missing = names.filter(name => findCommand(name) === undefined)
  return unless(missing.length === 0, `needs ${missing.join(', ')}`)
}

/** Network namespaces with nftables rules. */
export const requireNetns = (): Skip => requireLinux() || requireRoot() || requireCommands('ip', 'nft')

function unless(met: boolean, reason: string): Skip {
  if (met) return false
  if (process.env.CI === 'true') throw new Error(`${reason} (CI=true allows no skips)`)
  return reason
}

/** A whole Kubernetes in namespaces of its own, with images built here. */
export const requireCluster = (): Skip =>
  requireLinux() ||
  requireRoot() ||
  requireGo() ||
  requireCommands('ip', 'nft', 'nsenter', 'unshare', 'runc', 'buildah', 'busybox', 'conntrack', 'iptables')
