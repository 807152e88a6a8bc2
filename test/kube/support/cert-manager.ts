// cert-manager's own controller beside a test's API server: its CRDs, a CA issuer, and the controllers that sign
// CertificateSigningRequests. Source: cert-manager v1.11, docs "Kubernetes CertificateSigningRequests".
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { binary, moduleDirectory } from '../../cluster/binaries.ts'
import type { ApiServer } from '../../support/api-server.ts'
import { writeKubeconfig } from '../../support/control-plane.ts'
import { freePorts, type Running, startProgram } from '../../support/processes.ts'
import { until } from './installation.ts'

const NAMESPACE = 'cert-manager'
const SECRET = 'postern-issuer'
const ISSUER = 'postern'
export const CERT_MANAGER_SIGNER = `clusterissuers.cert-manager.io/${ISSUER}`

/** PEM: the issuer's certificate, its own issuers behind it, and the key (PKCS#8). */
export type IssuerKeys = { readonly chain: string; readonly key: string }

export type CertManager = AsyncDisposable & {
  /** Another CA in the issuer's Secret. */
  use(issuer: IssuerKeys): Promise<void>
  readonly log: string
}

export async function startCertManager(
  server: ApiServer,
  directory: string,
  issuer: IssuerKeys,
): Promise<CertManager> {
  const { kube, kubectl } = server
  const command = await binary('cert-manager-controller')
  await apply(server, await crds())
  await kube.create('/api/v1/namespaces', { metadata: { name: NAMESPACE } })
  const use = ({ chain, key }: IssuerKeys) => apply(server, JSON.stringify(secretOf(chain, key)))
  await use(issuer)
  const established = [
    'wait',
    '--for=condition=Established',
    '--timeout=30s',
    'crd/clusterissuers.cert-manager.io',
  ]
  await succeed(kubectl(established))
  await apply(server, JSON.stringify(ISSUER_OBJECT))

  const log = join(directory, 'cert-manager.log')
  const [metrics = 0] = await freePorts(1)
  const running: Running = startProgram({
    command,
    args: [
      `--kubeconfig=${await writeKubeconfig(directory, 'cert-manager', server.endpoint)}`,
      `--cluster-resource-namespace=${NAMESPACE}`,
      '--feature-gates=ExperimentalCertificateSigningRequestControllers=true',
      '--controllers=clusterissuers',
      '--leader-elect=false',
      `--metrics-listen-address=127.0.0.1:${metrics}`,
    ],
    log,
  })
  await until(async () => {
    const end = running.ended()
    if (end) throw new Error(`cert-manager ${end}: ${(await readFile(log, 'utf8')).slice(-1_000)}`)
    const { status } = await kube.get<{ status?: { conditions?: { type: string; status: string }[] } }>(
      `/apis/cert-manager.io/v1/clusterissuers/${ISSUER}`,
    )
    return status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
  })
  return { use, log, [Symbol.asyncDispose]: () => running[Symbol.asyncDispose]() }
}

const secretOf = (chain: string, key: string) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  type: 'kubernetes.io/tls',
  metadata: { name: SECRET, namespace: NAMESPACE },
  data: { 'tls.crt': btoa(chain), 'tls.key': btoa(key) },
})

const ISSUER_OBJECT = {
  apiVersion: 'cert-manager.io/v1',
  kind: 'ClusterIssuer',
  metadata: { name: ISSUER },
  spec: { ca: { secretName: SECRET } },
}

/** As its chart has them, without the lines that Helm would fill in. */
async function crds(): Promise<string> {
  const folder = join(
    await moduleDirectory('cert-manager', 'github.com/cert-manager/cert-manager'),
    'deploy/crds',
  )
  const files = (await readdir(folder)).filter(name => name.endsWith('.yaml')).sort()
  const texts = await Promise.all(files.map(name => readFile(join(folder, name), 'utf8')))
  return texts.join('\n---\n').replaceAll(/^.*\{\{.*\n/gm, '')
}

const apply = ({ kubectl }: ApiServer, text: string) =>
  succeed(kubectl(['apply', '--server-side', '-f', '-'], text))

async function succeed(running: ReturnType<ApiServer['kubectl']>): Promise<void> {
  const { code, stderr } = await running
  if (code !== 0) throw new Error(stderr)
}
