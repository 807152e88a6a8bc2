// The port table (see ARCHITECTURE.md). The sidecar's own ports are never relayed to and never captured.

export const PROXY_UID = 15008

export const PORTS = {
  /** Outbound capture, loopback only. */
  outbound: 15001,
  /** Inbound capture of what did not come through the tunnel. */
  inbound: 15006,
  /** The tunnel: HBONE over mTLS. */
  tunnel: 15008,
  /** Metrics, health and rewritten probes, status only. */
  status: 15020,
  /** Nobody listens: the start-up probe's target answers only through the inbound redirect. */
  startup: 15021,
} as const

/** `bundle`: our trust bundle for partners, once there is a web certificate for it. */
export const INJECTOR_PORTS = { webhook: 9443, control: 15012, metrics: 15014, bundle: 15018 } as const
/** The injector's, on loopback: for `kubectl port-forward` alone. */
export const ADMIN_PORT = 15016

/**
 * How many connections may wait to be accepted; the kernel caps it at net.core.somaxconn, 4,096 unless set. With Node's
 * 511 a burst that a busy loop does not take at once is lost: its SYNs are dropped for seconds, or reset behind a cookie.
 */
export const LISTEN_BACKLOG = 4_096

const own = new Set<number>(Object.values(PORTS))

export const isOwnPort = (port: number): boolean => own.has(port)
