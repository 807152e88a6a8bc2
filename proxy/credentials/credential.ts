// A credential is an immutable snapshot of the sidecar's identity; rotation replaces the whole of it.
// Sources (the CSR API, files, the Workload API) are streams of snapshots.
import type { SpiffeId } from '../../shared/spiffe-id.ts'

export type Credential = {
  /** Grows by one with each credential of this process: part of the tunnel pool's key. */
  readonly generation: number
  readonly identity: SpiffeId
  /** PEM, PKCS#8. Never logged, never outside this pod's memory. */
  readonly key: string
  /** PEM, leaf first, without the root. */
  readonly chain: string
  /** Lower-case hex. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
}

/**
 * Yields the first credential as soon as there is one, then each successor; ends when `signal` aborts. Of a source that can
 * take an identity back: undefined when the last one must not be used any more.
 */
export type CredentialSource<T extends Credential | undefined = Credential> = (
  signal: AbortSignal,
) => AsyncIterable<T>
