// Hosts: to Istio one without a port means requests that name none, to us it means any port. A request that names none is at
// port 80 (RFC 9110, section 4.2.1), so that is what is written where more hosts would help the caller.
import type { Item } from '../../../shared/policy/reader.ts'
import type { IstioAction, Original } from './original.ts'

const HAS_PORT = /:([0-9]+|\*)$/

export function convertHosts(
  { reader, note }: Original,
  item: Item,
  action: IstioAction,
  field: 'hosts' | 'notHosts',
): readonly string[] | undefined {
  const helps = (action === 'ALLOW') === (field === 'hosts')
  return reader.list(item, '', entry => {
    const host = reader.text(entry, () => true, 'write a host')
    if (host === undefined) return undefined
    // Of Istio's, such a suffix matches ports too.
    if (!helps && /^\*[0-9]+$/.test(host)) {
      reader.report(entry.path, `${host} has no equal here`, 'write the port, as *:8080')
      return undefined
    }
    if (host === '*' || host.endsWith('*') || HAS_PORT.test(host)) return host
    if (helps) {
      note(
        entry.path,
        `written as ${host}:80, which is what a request without a port means; Istio matched no other`,
      )
      return `${host}:80`
    }
    note(entry.path, `${host} means any port now; Istio matched requests that name none`)
    return host
  })
}
