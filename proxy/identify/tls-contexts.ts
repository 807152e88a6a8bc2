// TLS of the tunnel's both sides; the control stream's server speaks the same (shared/tls).
export {
  ALPN,
  clientTlsOptions,
  HANDSHAKE_TIMEOUT_MS,
  secureContext,
  serverTlsOptions,
} from '../../shared/tls/contexts.ts'
