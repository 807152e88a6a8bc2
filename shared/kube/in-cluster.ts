// Where the API server is, for a process in a pod; POSTERN_API_SERVER is for processes outside.
import { PosternError } from '../errors.ts'

type Environment = Readonly<Record<string, string | undefined>>

const OUTSIDE = /^https:\/\/[^/]+$|^http:\/\/(127\.0\.0\.1|\[::1\])(:\d+)?$/
const PORT = /^[1-9][0-9]{0,4}$/

/** @throws PosternError PSTN_CONFIG_INVALID naming the variable. Plain HTTP never leaves the machine. */
export function apiServerUrl(env: Environment): string {
  const explicit = env.POSTERN_API_SERVER
  if (explicit !== undefined) {
    if (OUTSIDE.test(explicit)) return explicit
    throw invalid('POSTERN_API_SERVER', 'must be https://host:port, or http:// on loopback')
  }
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env
  if (!host) throw invalid('KUBERNETES_SERVICE_HOST', 'is missing')
  if (!port || !PORT.test(port)) throw invalid('KUBERNETES_SERVICE_PORT', 'is no port')
  return `https://${host.includes(':') ? `[${host}]` : host}:${port}`
}

const invalid = (name: string, why: string): PosternError =>
  new PosternError('PSTN_CONFIG_INVALID', `${name}: ${why}`)
