// Runs a rewritten probe: asks the application what the kubelet would have asked it, at the pod's own address, and
// reduces the answer to one status. Failures of the application are 503; nothing of its answer but the status passes.
import { once } from 'node:events'
import { type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { connect } from 'node:net'
import { authorityOf } from '../../shared/addresses.ts'
import type { ProbeTarget, RewrittenProbe } from '../../shared/injection/settings.ts'
import { isServing } from './grpc-health.ts'

const OK = 200
const UNAVAILABLE = 503

/** The status for the kubelet. `userAgent` is its own, which applications know their probes by. */
export async function runProbe(
  { target, timeoutSeconds }: RewrittenProbe,
  podIp: string,
  userAgent: string,
  signal: AbortSignal,
): Promise<number> {
  const timeout = AbortSignal.timeout(timeoutSeconds * 1000)
  try {
    return await ask(target, podIp, userAgent, AbortSignal.any([signal, timeout]))
  } catch {
    return UNAVAILABLE
  }
}

async function ask(
  target: ProbeTarget,
  address: string,
  userAgent: string,
  signal: AbortSignal,
): Promise<number> {
  switch (target.kind) {
    case 'http':
      return askHttp(target, address, userAgent, signal)
    case 'tcp': {
      const socket = connect({ host: address, port: target.port, signal })
      try {
        await once(socket, 'connect')
        return OK
      } finally {
        socket.destroy()
      }
    }
    case 'grpc':
      return (await isServing({ address, port: target.port }, target.service, signal)) ? OK : UNAVAILABLE
  }
}

/** Redirects are not followed: 3xx is a success to the kubelet. */
async function askHttp(
  { port, path, scheme, headers }: Extract<ProbeTarget, { kind: 'http' }>,
  host: string,
  userAgent: string,
  signal: AbortSignal,
): Promise<number> {
  const options = {
    host,
    port,
    path,
    // A connection of its own for each probe, as the kubelet does: a kept one would hide that nobody accepts.
    agent: false,
    headers: withDefaults(headers, {
      host: authorityOf(host, port),
      'user-agent': userAgent,
      accept: '*/*',
      connection: 'close',
    }),
    signal,
  }
  // The kubelet does not verify what an HTTPS probe presents either; this stays inside the pod.
  const request =
    scheme === 'HTTP' ? requestHttp(options) : requestHttps({ ...options, rejectUnauthorized: false })
  const answered = once(request.end(), 'response') as Promise<[IncomingMessage]>
  try {
    const [{ statusCode = 0 }] = await answered
    // Node reads any three digits, and cannot write those below 100.
    return statusCode < OK ? UNAVAILABLE : statusCode
  } finally {
    request.on('error', () => {}).destroy()
  }
}

type Headers = Extract<ProbeTarget, { kind: 'http' }>['headers']

/** Node's flat form, which keeps repeated names; an empty configured value removes a default, as in the kubelet. */
function withDefaults(configured: Headers, defaults: Readonly<Record<string, string>>): string[] {
  const names = new Set(configured.map(({ name }) => name.toLowerCase()))
  const missing = Object.entries(defaults).filter(([name]) => !names.has(name))
  const given = configured.filter(({ value }) => value !== '').map(({ name, value }) => [name, value])
  return [...given, ...missing].flat()
}
