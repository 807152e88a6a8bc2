// Every certificate that a signer ever wrote, as the API server tells it: which request (by its uid) held which serials.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import { watchList } from '../../../injector/kube/watch.ts'
import { CSR_PATH } from '../../../injector/signer/objects.ts'
import { systemClock } from '../../../shared/clock.ts'
import type { Kube } from '../../../shared/kube/rest.ts'
import { createLogger } from '../../../shared/log.ts'
import { parseCertificate } from '../../../shared/x509/certificate.ts'

export type IssuedSerials = AsyncDisposable & {
  /** Serials by the uid of the request that held them. */
  readonly byRequest: ReadonlyMap<string, ReadonlySet<string>>
  /** Requests that exist now, by name. */
  readonly present: ReadonlySet<string>
}

export function watchSerials(kube: Kube): IssuedSerials {
  const byRequest = new Map<string, Set<string>>()
  const present = new Set<string>()
  const see = ({ metadata, status }: V1CertificateSigningRequest) => {
    present.add(metadata?.name ?? '')
    if (!status?.certificate) return
    const { serial } = parseCertificate(Buffer.from(status.certificate, 'base64').toString())
    const uid = metadata?.uid ?? ''
    byRequest.set(uid, (byRequest.get(uid) ?? new Set()).add(serial))
  }
  const stop = new AbortController()
  const watching = watchList<V1CertificateSigningRequest>(
    kube,
    CSR_PATH,
    {},
    {
      onList: requests => {
        present.clear()
        requests.forEach(see)
      },
      onEvent: (type, request) => {
        if (type === 'DELETED') present.delete(request.metadata?.name ?? '')
        else see(request)
      },
    },
    { signal: stop.signal, log: createLogger('test', 'error'), clock: systemClock },
  )
  return {
    byRequest,
    present,
    [Symbol.asyncDispose]: () => {
      stop.abort()
      return watching
    },
  }
}
