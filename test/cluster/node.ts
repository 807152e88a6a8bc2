// The one node: containerd, kubelet, kube-proxy and DNS, with the settings that a small machine without systemd needs.
import { access, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { KubeEndpoint } from '../../shared/kube/rest.ts'
import type { Authority } from '../support/authority.ts'
import { writeKubeconfig } from '../support/control-plane.ts'
import { PAUSE_IMAGE } from './images.ts'
import { NODE_ADDRESS, POD_CIDR } from './sandbox.ts'

export const NODE_NAME = 'node-1'
export const CONTAINERD_SOCKET = '/run/containerd/containerd.sock'

/** Command line arguments of each program. */
export type NodePrograms = Readonly<
  Record<'containerd' | 'kubelet' | 'kube-proxy' | 'coredns', readonly string[]>
>

type NodeOptions = {
  readonly directory: string
  readonly cgroup: string
  readonly gates: readonly string[]
  readonly authority: Authority
  readonly endpoint: KubeEndpoint
}

/** Writes their files into `directory` and returns how to start them. */
export async function configureNode(options: NodeOptions): Promise<NodePrograms> {
  const { directory, cgroup, gates, authority, endpoint } = options
  const file = (name: string) => join(directory, name)
  const kubeconfig = async (name: string, commonName: string, ...organizations: string[]) => {
    const clientCertificate = await authority.issue({ commonName, organizations })
    return writeKubeconfig(directory, name, { ...endpoint, clientCertificate })
  }
  await kubeconfig('kubelet', `system:node:${NODE_NAME}`, 'system:nodes')
  const proxy = await kubeconfig('kube-proxy', 'system:kube-proxy')
  const dns = await kubeconfig('coredns', 'coredns', 'system:masters')
  await mkdir(file('cni'), { recursive: true })
  const texts = {
    'containerd.toml': containerdConfig(directory, await pluginDirectory()),
    'cni/10-pods.conflist': JSON.stringify(cniConfig(directory)),
    'resolv.conf': `nameserver ${NODE_ADDRESS}\n`,
    'kubelet.json': JSON.stringify(kubeletConfig(directory, cgroup, gates)),
    Corefile: corefile(dns),
  }
  for (const [name, text] of Object.entries(texts)) await writeFile(file(name), text)
  return {
    containerd: [`--config=${file('containerd.toml')}`],
    kubelet: kubeletArguments(directory),
    'kube-proxy': [
      `--kubeconfig=${proxy}`,
      '--proxy-mode=nftables',
      `--cluster-cidr=${POD_CIDR}`,
      `--hostname-override=${NODE_NAME}`,
      '--conntrack-max-per-core=0',
      '--oom-score-adj=0',
    ],
    coredns: [`-conf=${file('Corefile')}`],
  }
}

export function kubeletArguments(directory: string): string[] {
  const file = (name: string) => join(directory, name)
  return [
    `--config=${file('kubelet.json')}`,
    `--kubeconfig=${file('kubelet.kubeconfig')}`,
    `--root-dir=${file('kubelet')}`,
    `--cert-dir=${file('kubelet-pki')}`,
    `--node-ip=${NODE_ADDRESS}`,
    `--hostname-override=${NODE_NAME}`,
  ]
}

// restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE cannot give sandboxes a lower score than its own.
const containerdConfig = (directory: string, plugins: string) => `version = 3
root = "${directory}/containerd"
state = "/run/containerd"
[grpc]
address = "${CONTAINERD_SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "${PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["${plugins}"]
conf_dir = "${directory}/cni"
`

// Point-to-point links, routed: Services then work without br_netfilter.
const cniConfig = (directory: string) => ({
  cniVersion: '1.0.0',
  name: 'pods',
  plugins: [
    {
      type: 'ptp',
      ipam: {
        type: 'host-local',
        dataDir: join(directory, 'cni-addresses'),
        ranges: [[{ subnet: POD_CIDR }]],
        routes: [{ dst: '0.0.0.0/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
})

const kubeletConfig = (directory: string, cgroup: string, gates: readonly string[]) => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  featureGates: Object.fromEntries(gates.map(gate => [gate, true])),
  containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
  authentication: {
    anonymous: { enabled: false },
    webhook: { enabled: true },
    x509: { clientCAFile: join(directory, 'ca.crt') },
  },
  authorization: { mode: 'Webhook' },
  cgroupDriver: 'cgroupfs',
  cgroupRoot: cgroup,
  failCgroupV1: false,
  failSwapOn: false,
  oomScoreAdj: 0,
  enforceNodeAllocatable: [],
  evictionHard: {},
  imageGCHighThresholdPercent: 100,
  imageGCLowThresholdPercent: 99,
  podLogsDir: join(directory, 'pods'),
  volumePluginDir: join(directory, 'volume-plugins'),
  resolvConf: join(directory, 'resolv.conf'),
  clusterDNS: [NODE_ADDRESS],
  clusterDomain: 'cluster.local',
  // A test waits for no period of a real node.
  syncFrequency: '5s',
  nodeStatusUpdateFrequency: '2s',
})

const corefile = (kubeconfig: string) => `.:53 {
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig ${kubeconfig}
    ttl 1
  }
}
`

async function pluginDirectory(): Promise<string> {
  for (const directory of ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni']) {
    const found = await access(join(directory, 'ptp')).then(
      () => true,
      () => false,
    )
    if (found) return directory
  }
  throw new Error('no CNI plugins: install containernetworking-plugins')
}
