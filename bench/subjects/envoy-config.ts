// Envoy's bootstrap of one side as a JSON value.
import { BACKENDS, type Backend } from '../stage.ts'
import type { Certificates, Side } from './peer-certificates.ts'
import type { Ports } from './proxy-pair.ts'

export type EnvoyLayer = 'l4' | 'l7'

export type EnvoyOptions = {
  readonly side: Side
  readonly layer: EnvoyLayer
  readonly ports: Ports
  /** The server's address. */
  readonly server: string
  readonly certificates: Certificates
}

const V3 = 'type.googleapis.com/envoy.extensions'
/** Envoy's default of 1,024 would be what is measured. */
const UNLIMITED = 1_000_000

export function envoyConfig(options: EnvoyOptions): object {
  const backends = Object.keys(BACKENDS) as Backend[]
  return {
    static_resources: {
      listeners: backends.map(backend => listener(options, backend)),
      clusters: backends.map(backend => cluster(options, backend)),
    },
    overload_manager: {
      resource_monitors: [
        {
          name: 'envoy.resource_monitors.global_downstream_max_connections',
          typed_config: {
            '@type': `${V3}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig`,
            max_active_downstream_connections: UNLIMITED,
          },
        },
      ],
    },
  }
}

function listener(options: EnvoyOptions, backend: Backend): object {
  const { side, layer, ports, certificates } = options
  const filters =
    layer === 'l4' ? tcpFilters(side, backend, certificates) : [httpFilter(side, backend, certificates)]
  const transport = {
    name: 'tls',
    typed_config: {
      '@type': `${V3}.transport_sockets.tls.v3.DownstreamTlsContext`,
      require_client_certificate: true,
      common_tls_context: tlsContext('server', certificates, layer),
    },
  }
  return {
    name: backend,
    address: address(side === 'client' ? '127.0.0.1' : '0.0.0.0', ports[side][backend]),
    tcp_backlog_size: 16_384,
    filter_chains: [{ filters, ...(side === 'server' && { transport_socket: transport }) }],
  }
}

function tcpFilters(side: Side, backend: Backend, certificates: Certificates): object[] {
  const rbac = {
    name: 'rbac',
    typed_config: {
      '@type': `${V3}.filters.network.rbac.v3.RBAC`,
      stat_prefix: 'rbac',
      rules: rules(certificates, [{ any: true }]),
    },
  }
  const proxy = {
    name: 'tcp',
    typed_config: {
      '@type': `${V3}.filters.network.tcp_proxy.v3.TcpProxy`,
      stat_prefix: backend,
      cluster: backend,
      access_log: accessLog(),
    },
  }
  return side === 'server' ? [rbac, proxy] : [proxy]
}

function httpFilter(side: Side, backend: Backend, certificates: Certificates): object {
  const path = { url_path: { path: { prefix: '/' } } }
  const methods = ['GET', 'POST', 'PUT'].map(exact => ({
    header: { name: ':method', string_match: { exact } },
  }))
  const rbac = {
    name: 'rbac',
    typed_config: {
      '@type': `${V3}.filters.http.rbac.v3.RBAC`,
      rules: rules(certificates, [{ and_rules: { rules: [path, { or_rules: { rules: methods } }] } }]),
    },
  }
  const router = { name: 'router', typed_config: { '@type': `${V3}.filters.http.router.v3.Router` } }
  const xfcc = {
    forward_client_cert_details: 'SANITIZE_SET',
    set_current_client_cert_details: { uri: true },
  }
  const route = { match: { prefix: '/' }, route: { cluster: backend, timeout: '0s' } }
  return {
    name: 'http',
    typed_config: {
      '@type': `${V3}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
      stat_prefix: backend,
      access_log: accessLog(),
      http_filters: side === 'server' ? [rbac, router] : [router],
      route_config: { virtual_hosts: [{ name: backend, domains: ['*'], routes: [route] }] },
      ...(side === 'server' && xfcc),
    },
  }
}

function cluster(options: EnvoyOptions, backend: Backend): object {
  const { side, layer, ports, server, certificates } = options
  const toPeer = {
    transport_socket: {
      name: 'tls',
      typed_config: {
        '@type': `${V3}.transport_sockets.tls.v3.UpstreamTlsContext`,
        common_tls_context: tlsContext('client', certificates, layer),
      },
    },
  }
  const http2 = layer === 'l7' && (side === 'client' || backend === 'http2')
  const port = side === 'client' ? ports.server[backend] : BACKENDS[backend]
  const limits = Object.fromEntries(
    ['max_connections', 'max_pending_requests', 'max_requests'].map(name => [name, UNLIMITED]),
  )
  const endpoint = { endpoint: { address: address(server, port) } }
  return {
    name: backend,
    type: 'STATIC',
    connect_timeout: '5s',
    circuit_breakers: { thresholds: [limits] },
    load_assignment: { cluster_name: backend, endpoints: [{ lb_endpoints: [endpoint] }] },
    ...(side === 'client' && toPeer),
    ...(http2 && { typed_extension_protocol_options: http2Options() }),
  }
}

const http2Options = () => ({
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': `${V3}.upstreams.http.v3.HttpProtocolOptions`,
    explicit_http_config: { http2_protocol_options: {} },
  },
})

/** Of the side that presents itself; it expects the other's identity. */
function tlsContext(side: Side, certificates: Certificates, layer: EnvoyLayer): object {
  const { root, chain, key, identity } = certificates
  const peer = side === 'client' ? 'server' : 'client'
  const version = 'TLSv1_3'
  return {
    tls_params: { tls_minimum_protocol_version: version, tls_maximum_protocol_version: version },
    tls_certificates: [
      { certificate_chain: { filename: chain[side] }, private_key: { filename: key[side] } },
    ],
    validation_context: {
      trusted_ca: { filename: root },
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: identity[peer] } }],
    },
    ...(layer === 'l7' && { alpn_protocols: ['h2'] }),
  }
}

const rules = ({ identity }: Certificates, permissions: readonly object[]) => ({
  action: 'ALLOW',
  policies: {
    caller: {
      permissions,
      principals: [{ authenticated: { principal_name: { exact: identity.client } } }],
    },
  },
})

/** To the process's own output, which is a file. */
const accessLog = () => [
  {
    name: 'file',
    typed_config: { '@type': `${V3}.access_loggers.stream.v3.StdoutAccessLog` },
  },
]

const address = (host: string, port: number) => ({ socket_address: { address: host, port_value: port } })
