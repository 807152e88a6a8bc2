// PeerAuthentication, in Istio's fields: whether plaintext is refused, for the mesh, a namespace, a workload, a port. And one
// that is not Istio's: the ports on which the sidecar terminates TLS for callers without one.
import { isOwnPort } from '../ports.ts'
import type { PeerAuthenticationDocument } from './document.ts'
import type { InboundMode, TlsMode } from './model.ts'
import { readPort } from './read-operation.ts'
import { readSelector } from './read-selector.ts'
import { type Item, isMapping, type Reader } from './reader.ts'

const MTLS: Modes<InboundMode> = { STRICT: 'strict', PERMISSIVE: 'permissive' }
const TLS: Modes<TlsMode> = { MUTUAL: 'mutual', SERVER: 'server' }

/** As they are written. */
type Modes<M> = { readonly [name: string]: M }
type Ports<M> = { [port: string]: M }
type Fields = { readonly [K in 'selector' | 'mtls' | 'portLevelMtls' | 'portLevelTls']?: Item | undefined }

/** Undefined if anything was reported. `name` is `<namespace>/<name>`. */
export function readPeerAuthentication(
  reader: Reader,
  spec: Item,
  {
    namespace,
    name,
    meshWide,
  }: { readonly namespace: string; readonly name: string; readonly meshWide: boolean },
): PeerAuthenticationDocument | undefined {
  const fields = reader.mapping(spec, ['selector', 'mtls', 'portLevelMtls', 'portLevelTls'])
  if (fields === undefined) return undefined
  const { mtls, portLevelMtls, portLevelTls } = fields
  if (mtls === undefined && portLevelMtls === undefined && portLevelTls === undefined)
    reader.report(spec.path, 'sets no mode', 'write mtls: {mode: STRICT} or {mode: PERMISSIVE}')
  checkReach(reader, fields, meshWide)
  const selector = fields.selector && readSelector(reader, fields.selector)
  const mode = mtls && readMode(reader, mtls, MTLS)
  const ports = portLevelMtls && readPorts(reader, portLevelMtls, MTLS)
  const tls = portLevelTls && readPorts(reader, portLevelTls, TLS)
  checkTlsPorts(reader, tls, ports, [...spec.path, 'portLevelTls'])
  return {
    kind: 'PeerAuthentication',
    namespace,
    name,
    ...(selector && { selector }),
    ...(mode && { mode }),
    ports: ports ?? {},
    ...(tls && { tls }),
  }
}

function checkReach(reader: Reader, { selector, portLevelMtls, portLevelTls }: Fields, meshWide: boolean) {
  if (meshWide && selector !== undefined)
    reader.report(
      selector.path,
      'a mesh-wide PeerAuthentication selects every pod',
      'leave it out, or write the document in the workload’s namespace',
    )
  if (selector !== undefined) return
  for (const ports of [portLevelMtls, portLevelTls])
    if (ports !== undefined)
      reader.report(
        ports.path,
        'has no selector to say whose ports these are',
        'add spec.selector.matchLabels',
      )
}

function checkTlsPorts(
  reader: Reader,
  tls: Ports<TlsMode> = {},
  ports: Ports<InboundMode> = {},
  path: Item['path'],
) {
  for (const port of Object.keys(tls))
    if (isOwnPort(Number(port)))
      reader.report([...path, port], `${port} is Postern’s own`, 'name a port of the application')
    else if (ports[port] !== undefined)
      reader.report(
        [...path, port],
        `${port} is in portLevelMtls too`,
        'leave it out there: what comes to a port with TLS without a tunnel is never plaintext',
      )
}

function readMode<M>(reader: Reader, item: Item, modes: Modes<M>): M | undefined {
  const fields = reader.mapping(item, ['mode'])
  if (fields === undefined) return undefined
  if (fields.mode?.value === 'DISABLE') {
    reader.report(
      fields.mode.path,
      'DISABLE is not supported',
      'PERMISSIVE accepts plaintext; postern.dev/skip-inbound-ports takes a port out of the mesh',
    )
    return undefined
  }
  const mode = fields.mode ?? { value: undefined, path: [...item.path, 'mode'] }
  const written = reader.oneOf(mode, Object.keys(modes))
  return written === undefined ? undefined : modes[written]
}

function readPorts<M>(reader: Reader, item: Item, modes: Modes<M>): Ports<M> | undefined {
  if (!isMapping(item.value) || Object.keys(item.value).length === 0) {
    const forms = Object.keys(modes).map(mode => `{mode: ${mode}}`)
    reader.report(item.path, 'names no port', `write <port>: ${forms.join(' or ')}`)
    return undefined
  }
  const ports: Ports<M> = {}
  for (const [key, value] of Object.entries(item.value)) {
    const path = [...item.path, key]
    const port = readPort(reader, { value: key, path })
    const mode = readMode(reader, { value, path }, modes)
    if (port !== undefined && mode !== undefined) ports[port] = mode
  }
  return ports
}
