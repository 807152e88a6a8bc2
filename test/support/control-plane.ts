// What etcd, kube-apiserver and kube-controller-manager need to start: certificates, keys, kubeconfig and flags.
// Both the API server of the kube tests and the cluster of the cluster tests start them this way.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Kube, KubeEndpoint } from '../../shared/kube/rest.ts'
import { type Authority, createAuthority, serviceAccountKeys } from './authority.ts'

const SERVICE_CIDR = '10.96.0.0/16'
/** The API server's own Service. */
export const SERVICE_API_ADDRESS = '10.96.0.1'

export type ControlPlaneFiles = {
  readonly authority: Authority
  /** An administrator's. */
  readonly endpoint: KubeEndpoint
  readonly kubeconfig: string
}

/** The certificates and keys that the programs below read from `directory`, and an administrator's kubeconfig. */
export async function writeControlPlaneFiles(
  directory: string,
  serverUrl: string,
  addresses: readonly string[],
): Promise<ControlPlaneFiles> {
  const authority = await createAuthority('test cluster')
  const serving = await authority.issue({
    commonName: 'kube-apiserver',
    dns: ['localhost', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local'],
    ips: [...new Set(['127.0.0.1', SERVICE_API_ADDRESS, ...addresses])],
  })
  const kubelet = await authority.issue({ commonName: 'kube-apiserver', organizations: ['system:masters'] })
  const accounts = serviceAccountKeys()
  await writePrivate(directory, {
    'ca.crt': authority.cert,
    'ca.key': authority.key,
    'serving.crt': serving.cert,
    'serving.key': serving.key,
    'kubelet-client.crt': kubelet.cert,
    'kubelet-client.key': kubelet.key,
    'accounts.pub': accounts.publicKey,
    'accounts.key': accounts.privateKey,
  })
  const clientCertificate = await authority.issue({
    commonName: 'admin',
    organizations: ['system:masters'],
  })
  const endpoint = { server: serverUrl, ca: authority.cert, clientCertificate }
  return { authority, endpoint, kubeconfig: await writeKubeconfig(directory, 'admin', endpoint) }
}

/** Writes `NAME.kubeconfig` and returns its path. */
export async function writeKubeconfig(
  directory: string,
  name: string,
  endpoint: KubeEndpoint,
): Promise<string> {
  const file = `${name}.kubeconfig`
  await writePrivate(directory, { [file]: JSON.stringify(kubeconfigFor(endpoint)) })
  return join(directory, file)
}

async function writePrivate(directory: string, files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files))
    await writeFile(join(directory, name), text, { mode: 0o600 })
}

export function etcdArguments(directory: string, client: string, peer: string): string[] {
  return [
    `--data-dir=${join(directory, 'etcd')}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync',
    '--log-level=warn',
  ]
}

export function apiServerArguments(directory: string, etcdUrl: string): string[] {
  const file = (name: string) => join(directory, name)
  return [
    `--etcd-servers=${etcdUrl}`,
    `--cert-dir=${directory}`,
    `--tls-cert-file=${file('serving.crt')}`,
    `--tls-private-key-file=${file('serving.key')}`,
    `--client-ca-file=${file('ca.crt')}`,
    `--service-account-key-file=${file('accounts.pub')}`,
    `--service-account-signing-key-file=${file('accounts.key')}`,
    `--kubelet-client-certificate=${file('kubelet-client.crt')}`,
    `--kubelet-client-key=${file('kubelet-client.key')}`,
    '--kubelet-preferred-address-types=InternalIP',
    '--service-account-issuer=https://kubernetes.default.svc',
    '--authorization-mode=Node,RBAC',
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    '--allow-privileged',
  ]
}

export function controllerManagerArguments(directory: string, kubeconfig: string): string[] {
  const file = (name: string) => join(directory, name)
  return [
    `--kubeconfig=${kubeconfig}`,
    '--use-service-account-credentials',
    `--root-ca-file=${file('ca.crt')}`,
    `--service-account-private-key-file=${file('accounts.key')}`,
    `--cluster-signing-cert-file=${file('ca.crt')}`,
    `--cluster-signing-key-file=${file('ca.key')}`,
    '--leader-elect=false',
    '--secure-port=0',
  ]
}

export async function apiServerIsReady(kube: Kube): Promise<boolean> {
  const response = await kube.stream('/readyz', AbortSignal.timeout(5_000))
  response.resume()
  await kube.get('/api/v1/namespaces/default')
  return true
}

function kubeconfigFor({ server, ca, clientCertificate }: KubeEndpoint): object {
  const base64 = (text = '') => Buffer.from(text).toString('base64')
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority-data': base64(ca) } }],
    users: [
      {
        name: 'admin',
        user: {
          'client-certificate-data': base64(clientCertificate?.cert),
          'client-key-data': base64(clientCertificate?.key),
        },
      },
    ],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
    'current-context': 'test',
  }
}
