// A connection to a port of a pod, through the API server, as `kubectl port-forward` makes it. Like reading a kubeconfig,
// this is @kubernetes/client-node's business.
import { type Duplex, duplexPair, PassThrough } from 'node:stream'
import { PortForward } from '@kubernetes/client-node'
import { PosternError } from '../shared/errors.ts'
import { type Cluster, loadConfig } from './kubeconfig.ts'

export type ForwardTarget = { readonly namespace: string; readonly pod: string; readonly port: number }

/** Ends with the signal. @throws PosternError PSTN_API_UNAVAILABLE, PSTN_CONFIG_INVALID */
export async function forwardPort(
  { kubeconfig, context }: Cluster,
  { namespace, pod, port }: ForwardTarget,
  signal: AbortSignal,
): Promise<Duplex> {
  const forward = new PortForward(loadConfig(kubeconfig, context))
  const [connection, pipe] = duplexPair()
  const trouble = new PassThrough()
  const failed = (reason: string) =>
    new PosternError('PSTN_API_UNAVAILABLE', `port-forward to ${namespace}/${pod}:${port}: ${reason}`)
  trouble.on('data', (text: Buffer) => connection.destroy(failed(text.toString('utf8').trim())))
  const socket = await forward.portForward(namespace, pod, [port], pipe, trouble, pipe).catch(thrown => {
    const reason = String(Object(thrown).message ?? thrown)
    throw failed(reason.includes('403') ? `${reason} (it needs \`create\` on pods/portforward)` : reason)
  })
  if (typeof socket === 'function') throw failed('the client library changed')
  const close = () => socket.close()
  socket.onclose = () => pipe.end()
  connection.once('close', close)
  signal.addEventListener('abort', () => connection.destroy(failed('no answer in time')), { once: true })
  return connection
}
