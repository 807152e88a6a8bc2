// PeerAuthentication of Istio's to the spec of ours.
import { type Item, isMapping, type Reader } from '../../../shared/policy/reader.ts'
import { isEmpty, type Original, selectorOf } from './original.ts'

export function convertPeerAuthentication({ reader, spec, note }: Original): object | undefined {
  const fields = reader.mapping(spec, ['selector', 'mtls', 'portLevelMtls'])
  if (fields === undefined) return undefined
  const mtls = modeOf(reader, fields.mtls)
  const { value = {}, path = [] } = fields.portLevelMtls ?? {}
  const entries = Object.entries(isMapping(value) ? value : {}).flatMap(([port, mode]) => {
    const known = modeOf(reader, { value: mode, path: [...path, port] })
    return known ? [[port, known] as const] : []
  })
  if (mtls === undefined && entries.length === 0) {
    note(spec.path, 'sets no mode, and inherits it: left out')
    return undefined
  }
  return {
    ...selectorOf(fields.selector),
    ...(mtls && { mtls }),
    ...(entries.length > 0 && { portLevelMtls: Object.fromEntries(entries) }),
  }
}

/** UNSET is inherited. What is not known, DISABLE included, is left for our reader to say. */
function modeOf(reader: Reader, item: Item | undefined): { readonly mode: unknown } | undefined {
  if (item === undefined || isEmpty(item.value)) return undefined
  const mode = reader.mapping(item, ['mode'])?.mode?.value
  return isEmpty(mode) || mode === 'UNSET' ? undefined : { mode }
}
