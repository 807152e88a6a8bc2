// Where this sidecar's certificate comes from, as its pod's annotations say: the CSR API, files, or the Workload API.
import { join } from 'node:path'
import type { CertificateSource } from '../../shared/injection/settings.ts'
import type { Credential, CredentialSource } from './credential.ts'
import { type CsrSourceOptions, csrCredentialSource } from './csr-source.ts'
import { fileSupplier } from './file-source.ts'
import { offeredCredentials } from './offered-source.ts'
import { workloadApi } from './workload-api.ts'

export type SourceOptions = CsrSourceOptions & {
  /** Absent: the CSR API. */
  readonly certificateSource: CertificateSource | undefined
  /** Where the volume is that the source's paths are in. */
  readonly certificateDir: string
}

export function credentialSource(options: SourceOptions): CredentialSource<Credential | undefined> {
  const { certificateSource: source, certificateDir, identity, clock, random } = options
  const within = (path: string) => join(certificateDir, path)
  switch (source?.kind) {
    case undefined:
      return csrCredentialSource(options)
    case 'files': {
      const supplier = fileSupplier({ key: within(source.key), chain: within(source.chain) })
      return offeredCredentials(() => supplier, options)
    }
    case 'workload-api': {
      const agent = { identity, socket: within(source.socket), clock, random }
      return offeredCredentials(signal => workloadApi(agent, signal), options)
    }
  }
}
