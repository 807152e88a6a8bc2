// PeerAuthentication, in Istio's fields: whether plaintext is refused, for the mesh, a namespace, a workload, a port.
import type { PeerAuthenticationDocument } from './document.ts'
import type { InboundMode } from './model.ts'
import { readPort } from './read-operation.ts'
import { readSelector } from './read-selector.ts'
import { type Item, isMapping, type Reader } from './reader.ts'

const MODES = { STRICT: 'strict', PERMISSIVE: 'permissive' } as const satisfies Record<string, InboundMode>

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
  const fields = reader.mapping(spec, ['selector', 'mtls', 'portLevelMtls'])
  if (fields === undefined) return undefined
  const { selector: selectorItem, mtls, portLevelMtls } = fields
  if (mtls === undefined && portLevelMtls === undefined)
    reader.report(spec.path, 'sets no mode', 'write mtls: {mode: STRICT} or {mode: PERMISSIVE}')
  if (portLevelMtls !== undefined && selectorItem === undefined)
    reader.report(
      portLevelMtls.path,
      'has no selector to say whose ports these are',
      'add spec.selector.matchLabels',
    )
  if (meshWide && selectorItem !== undefined)
    reader.report(
      selectorItem.path,
      'a mesh-wide PeerAuthentication selects every pod',
      'leave it out, or write the document in the workload’s namespace',
    )
  const selector = selectorItem && readSelector(reader, selectorItem)
  const mode = mtls && readMode(reader, mtls)
  const ports = portLevelMtls && readPorts(reader, portLevelMtls)
  return {
    kind: 'PeerAuthentication',
    namespace,
    name,
    ...(selector && { selector }),
    ...(mode && { mode }),
    ports: ports ?? {},
  }
}

function readMode(reader: Reader, item: Item): InboundMode | undefined {
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
  const mode = reader.oneOf(fields.mode ?? { value: undefined, path: [...item.path, 'mode'] }, [
    'STRICT',
    'PERMISSIVE',
  ])
  return mode && MODES[mode]
}

function readPorts(reader: Reader, item: Item): { [port: string]: InboundMode } | undefined {
  if (!isMapping(item.value) || Object.keys(item.value).length === 0) {
    reader.report(item.path, 'names no port', 'write <port>: {mode: STRICT} or {mode: PERMISSIVE}')
    return undefined
  }
  const ports: { [port: string]: InboundMode } = {}
  for (const [key, value] of Object.entries(item.value)) {
    const path = [...item.path, key]
    const port = readPort(reader, { value: key, path })
    const mode = readMode(reader, { value, path })
    if (port !== undefined && mode !== undefined) ports[port] = mode
  }
  return ports
}
