// The application's side of `postern.dev/cert-files`: what the chosen containers get, and why a pod cannot have it as it
// is written. The sidecar alone writes the volume; whoever mounts it holds the pod's key.
import { posix } from 'node:path'
import type { V1Container, V1EnvVar, V1Pod, V1VolumeMount } from '@kubernetes/client-node'
import { CERT_FILE } from '../cert-files.ts'
import { CERT_FILES_DIR, CERT_FILES_VOLUME } from '../names.ts'
import { POD_ANNOTATIONS, type PodOptions } from './annotations.ts'
import { isOurContainer } from './conflicts.ts'

const MOUNT: V1VolumeMount = { name: CERT_FILES_VOLUME, mountPath: CERT_FILES_DIR, readOnly: true }
const BUNDLE = `${CERT_FILES_DIR}/${CERT_FILE.bundle}`

/** The container with the files and its variables, if it is one of the chosen; what it has of them stays in its place. */
export function withCertFiles(container: V1Container, options: PodOptions): V1Container {
  if (!options.certFiles.includes(container.name)) return container
  const { volumeMounts = [], env = [] } = container
  const set = env.map(({ name }) => name)
  const variables: V1EnvVar[] = options.certFilesEnv
    .filter(name => !set.includes(name))
    .map(name => ({ name, value: BUNDLE }))
  return {
    ...container,
    volumeMounts: volumeMounts.some(isOurs)
      ? volumeMounts.map(mount => (isOurs(mount) ? MOUNT : mount))
      : [...volumeMounts, MOUNT],
    ...(variables.length > 0 && { env: [...env, ...variables] }),
  }
}

const isOurs = ({ name }: V1VolumeMount): boolean => name === CERT_FILES_VOLUME

/** `injected`: the chosen containers may hold what an earlier call gave them. */
export function certFilesConflicts({ spec }: V1Pod, options: PodOptions, injected: boolean): string[] {
  const theirs = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].filter(
    container => !isOurContainer(container),
  )
  const names = theirs.map(({ name }) => name)
  const has = names.length > 0 ? `it has ${names.join(', ')}` : 'it has none'
  const { key } = POD_ANNOTATIONS.certFiles
  return [
    ...options.certFiles
      .filter(name => !names.includes(name))
      .map(name => `${key}: the pod has no container ${name} of its own; ${has}`),
    ...theirs.flatMap(container => mountConflicts(container, options, injected)),
    ...theirs.flatMap(container => variableConflicts(container, options)),
  ]
}

function mountConflicts(container: V1Container, { certFiles }: PodOptions, injected: boolean): string[] {
  const { name, volumeMounts = [] } = container
  const chosen = certFiles.includes(name)
  const stray = volumeMounts.filter(mount => isOurs(mount) && !(chosen && injected && isAsGiven(mount)))
  const inTheWay = chosen ? volumeMounts.filter(mount => !isOurs(mount) && isWithin(mount)) : []
  return [
    ...stray.map(
      () =>
        `container ${name}: volume ${CERT_FILES_VOLUME} holds the pod’s key; name the container in ${POD_ANNOTATIONS.certFiles.key} instead of mounting it`,
    ),
    ...inTheWay.map(
      ({ name: volume, mountPath }) =>
        `container ${name}: volume ${volume} is mounted at ${mountPath}, where the certificate files go; mount it elsewhere`,
    ),
  ]
}

/** Read-only is put back where it was taken away. */
const isAsGiven = ({ mountPath, subPath, subPathExpr }: V1VolumeMount): boolean =>
  mountPath === CERT_FILES_DIR && !subPath && !subPathExpr

const isWithin = ({ mountPath }: V1VolumeMount): boolean =>
  `${posix.resolve('/', mountPath)}/`.startsWith(`${CERT_FILES_DIR}/`)

/** Which of the two was meant is not ours to say. */
function variableConflicts({ name, env = [] }: V1Container, options: PodOptions): string[] {
  if (!options.certFiles.includes(name)) return []
  const asked: readonly string[] = options.certFilesEnv
  return env
    .filter(variable => asked.includes(variable.name) && variable.value !== BUNDLE)
    .map(
      variable =>
        `container ${name}: it sets ${variable.name} itself; remove it there, or from ${POD_ANNOTATIONS.certFilesEnv.key}`,
    )
}
