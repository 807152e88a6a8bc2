// The cluster that the caller's kubeconfig names. Reading one (contexts, inline data, exec plugins, in-cluster) is
// @kubernetes/client-node's business; the calls are made by our own client, as everywhere.
import { KubeConfig } from '@kubernetes/client-node'
import { PosternError } from '../shared/errors.ts'
import { connectKube, type Kube } from '../shared/kube/rest.ts'

export type Cluster = { readonly kubeconfig?: string | undefined; readonly context?: string | undefined }

/** @throws PosternError PSTN_CONFIG_INVALID if there is no such file, context or cluster. */
export async function connectCluster({ kubeconfig, context }: Cluster): Promise<Kube> {
  const config = loadConfig(kubeconfig, context)
  const server = config.getCurrentCluster()?.server
  if (!server)
    throw new PosternError('PSTN_CONFIG_INVALID', 'the kubeconfig names no cluster; is --context right?')
  // As request options: the token of an exec plugin or a file is in the header.
  const options: { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer; headers?: object } =
    {}
  await config.applyToHTTPSOptions(options)
  const authorization = Object.entries(options.headers ?? {}).find(([name]) => /^authorization$/i.test(name))
  const token = /^Bearer (.+)$/.exec(String(authorization?.[1] ?? ''))?.[1]
  const { ca, cert, key } = options
  return connectKube({
    server,
    ...(ca && { ca: String(ca) }),
    ...(token && { token }),
    ...(cert && key && { clientCertificate: { cert: String(cert), key: String(key) } }),
  })
}

/** @throws PosternError PSTN_CONFIG_INVALID */
export function loadConfig(kubeconfig: string | undefined, context: string | undefined): KubeConfig {
  const config = new KubeConfig()
  try {
    if (kubeconfig === undefined) config.loadFromDefault()
    else config.loadFromFile(kubeconfig)
    if (context !== undefined) config.setCurrentContext(context)
    return config
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const why = `${reason}; the file is --kubeconfig, $KUBECONFIG or ~/.kube/config`
    throw new PosternError('PSTN_CONFIG_INVALID', `kubeconfig: ${why}`, { cause })
  }
}
