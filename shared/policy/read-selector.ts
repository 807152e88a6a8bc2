// What every policy document has in common: its metadata and the labels of the pods that it selects.
import type { Selector } from './document.ts'
import { type Item, isMapping, type Reader } from './reader.ts'

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
const SUBDOMAIN = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/
const LABEL_KEY = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/
const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/

export const isNamespaceName = (text: string): boolean => LABEL.test(text)
export const isObjectName = (text: string): boolean => SUBDOMAIN.test(text)

/** `<namespace>/<name>`, or undefined after reporting. */
export function readName(reader: Reader, metadata: Item, namespace: string): string | undefined {
  const fields = reader.mapping(metadata, ['name', 'namespace', 'labels'], ['annotations'])
  if (fields === undefined) return undefined
  if (fields.namespace !== undefined && fields.namespace.value !== namespace)
    reader.report(
      fields.namespace.path,
      `${JSON.stringify(fields.namespace.value)} is not the ConfigMap’s namespace ${namespace}`,
      'a policy holds in the namespace of its ConfigMap; leave this out',
    )
  const hint = 'write a name of lower-case letters, digits, - and .'
  const name = reader.text(
    fields.name ?? { value: undefined, path: [...metadata.path, 'name'] },
    isObjectName,
    hint,
  )
  return name && `${namespace}/${name}`
}

/** Undefined after reporting; `matchLabels: {}` would select everybody by accident. */
export function readSelector(reader: Reader, item: Item): Selector | undefined {
  const fields = reader.mapping(item, ['matchLabels'])
  if (fields === undefined) return undefined
  const labels = fields.matchLabels
  if (labels === undefined || !isMapping(labels.value) || Object.keys(labels.value).length === 0) {
    reader.report(
      labels?.path ?? item.path,
      'selects by no label',
      'write matchLabels with at least one label, or leave the selector out to mean every pod of the namespace',
    )
    return undefined
  }
  const selector: { [label: string]: string } = {}
  for (const [key, value] of Object.entries(labels.value)) {
    if (LABEL_KEY.test(key) && typeof value === 'string' && LABEL_VALUE.test(value)) selector[key] = value
    else reader.report([...labels.path, key], 'is no label', 'write key: "value", both as labels of pods')
  }
  return selector
}
