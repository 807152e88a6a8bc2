// Merge patch (RFC 7386) and the three operations of JSON Patch (RFC 6902) that admission webhooks use.
import { Refusal } from './store.ts'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const isObject = (value: unknown): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch
  const merged: { [key: string]: Json } = isObject(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else merged[key] = mergePatch(merged[key], value)
  }
  return merged
}

export type Operation = { readonly op: string; readonly path: string; readonly value?: Json }

/** @throws Refusal 422 for an operation or a path that does not apply. */
export function jsonPatch(document: Json, operations: readonly Operation[]): Json {
  const root = { document: structuredClone(document) }
  for (const operation of operations) applyOperation(root, operation)
  return root.document
}

function applyOperation(root: { document: Json }, { op, path, value = null }: Operation): void {
  const keys = path
    .split('/')
    .slice(1)
    .map(key => key.replaceAll('~1', '/').replaceAll('~0', '~'))
  const last = keys.pop() ?? ''
  const parent = keys.reduce<Json | undefined>(child, root.document)
  const done = Array.isArray(parent)
    ? editArray(parent, op, last, value)
    : isObject(parent) && editObject(parent, op, last, value)
  if (!done) throw new Refusal(422, 'Invalid', `the patch does not apply: ${op} ${path}`)
}

function child(parent: Json | undefined, key: string): Json | undefined {
  if (Array.isArray(parent)) return parent[Number(key)]
  return isObject(parent) ? parent[key] : undefined
}

function editArray(array: Json[], op: string, key: string, value: Json): boolean {
  const index = key === '-' ? array.length : Number(key)
  if (!(index >= 0 && index <= array.length)) return false
  array.splice(index, op === 'add' ? 0 : 1, ...(op === 'remove' ? [] : [value]))
  return true
}

function editObject(object: { [key: string]: Json }, op: string, key: string, value: Json): boolean {
  if (op !== 'add' && !(key in object)) return false
  if (op === 'remove') delete object[key]
  else object[key] = value
  return true
}
