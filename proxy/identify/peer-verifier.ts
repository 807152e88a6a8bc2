// Identify: who opened the connection. The check itself is shared with the control stream's server (shared/tls).
export { type PeerContext, verifyPeer } from '../../shared/tls/peer-verifier.ts'
