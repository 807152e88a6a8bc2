// What all converters of Istio's policies have in common.
import { type Item, isMapping, type Path, type Reader } from '../../../shared/policy/reader.ts'

export type Origin = {
  /** Of documents that name none. */
  readonly namespace: string
  /** Whose policies are mesh-wide. */
  readonly rootNamespace: string
  readonly trustDomain: string
}

/** What a converter gets. `namespace` is where the original stands. */
export type Original = Origin & {
  readonly reader: Reader
  readonly spec: Item
  readonly annotations: Readonly<Record<string, unknown>>
  note(path: Path, text: string): void
}

export const ACTIONS = ['ALLOW', 'DENY', 'AUDIT'] as const
export type IstioAction = (typeof ACTIONS)[number]

/** Labels that select everybody are left out. */
export function selectorOf(item: Item | undefined): { readonly selector?: unknown } {
  const { value } = item ?? {}
  if (isEmpty(value) || (isMapping(value) && Object.values(value).every(isEmpty))) return {}
  return { selector: value }
}

/** Of protobuf: what is empty is not there. */
export const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === '' ||
  (Array.isArray(value) && value.length === 0) ||
  (isMapping(value) && Object.keys(value).length === 0)
