// The pod's interception as one nftables text: pure, so that what a pod gets can be read, compared and tested.
// Loading it again replaces the table in one transaction; nothing outside `inet postern` is touched.
import { parseCidr } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import { PORTS, PROXY_UID } from '../../shared/ports.ts'

export type RuleOptions = {
  /** Ports of the application that callers reach directly, unauthenticated. */
  readonly skipInboundPorts: readonly number[]
  readonly skipOutboundPorts: readonly number[]
  readonly skipOutboundCidrs: readonly string[]
  /**
   * `block`: the application sends and receives no UDP (nor UDP-Lite, SCTP, DCCP) but DNS (port 53) and loopback; answers
   * to what it sent before pass. Postern cannot encrypt these, so this is for pods that must not speak plaintext at all.
   */
  readonly udp: 'allow' | 'block'
}

/**
 * The start-up port is deliberately not exempt inbound: the kubelet's probe of it is answered only if it was redirected.
 * `fib daddr type != local` leaves alone what the pod forwards (containers or machines inside it).
 * @throws PosternError PSTN_CONFIG_INVALID on a port or CIDR that is none: the text goes to a root process.
 */
export function rules(options: RuleOptions): string {
  return `add table inet postern
delete table inet postern
table inet postern {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lo" return
    fib daddr type != local return
    tcp dport { ${portSet([PORTS.tunnel, PORTS.status, ...options.skipInboundPorts])} } return
    meta l4proto tcp redirect to :${PORTS.inbound}
  }
  chain output {
    type nat hook output priority -100; policy accept;
${indent([...untouchedOutput(options), `meta l4proto tcp redirect to :${PORTS.outbound}`])}
  }
${options.udp === 'block' ? UDP_BLOCK : ''}}
`
}

function untouchedOutput({ skipOutboundPorts, skipOutboundCidrs }: RuleOptions): string[] {
  return [
    ...OWN_OUTPUT,
    ...(skipOutboundPorts.length > 0 ? [`tcp dport { ${portSet(skipOutboundPorts)} } return`] : []),
    ...skipOutboundCidrs.map(cidr => `${family(cidr)} daddr ${cidr} return`),
  ]
}

const OWN_OUTPUT = [
  `meta skuid ${PROXY_UID} return`,
  'oifname "lo" return',
  'ip daddr 127.0.0.0/8 return',
  'ip6 daddr ::1 return',
]

const indent = (lines: readonly string[]): string => lines.map(line => `    ${line}`).join('\n')

/** An application without privileges may open sockets of any of these; only TCP can be captured. */
const NOT_TCP = 'meta l4proto { udp, udplite, sctp, dccp }'

const UDP_BLOCK = `  chain udp_input {
    type filter hook input priority filter; policy accept;
    iifname "lo" return
    ct state established,related return
    ${NOT_TCP} drop
  }
  chain udp_output {
    type filter hook output priority filter; policy accept;
${indent(OWN_OUTPUT)}
    udp dport 53 return
    ${NOT_TCP} drop
  }
`

function portSet(ports: readonly number[]): string {
  const wrong = ports.find(port => !Number.isInteger(port) || port < 1 || port > 65_535)
  if (wrong !== undefined) throw new PosternError('PSTN_CONFIG_INVALID', `${wrong} is no port`)
  return [...new Set(ports)].toSorted((a, b) => a - b).join(', ')
}

function family(text: string): 'ip' | 'ip6' {
  const cidr = parseCidr(text)
  if (cidr) return cidr.family === 'ipv4' ? 'ip' : 'ip6'
  throw new PosternError('PSTN_CONFIG_INVALID', `${JSON.stringify(text)} is no CIDR such as 10.0.0.0/8`)
}
