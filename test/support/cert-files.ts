// Certificate files that say which generation they are of, long enough that none is written in one go.

import type { Files } from '../../proxy/cert-files/layout.ts'
import { CERT_FILE } from '../../shared/cert-files.ts'

const PADDING = '.'.repeat(20_000)

export const generation = (number: number): Files =>
  Object.fromEntries(Object.values(CERT_FILE).map(name => [name, `${number}${PADDING}`]))

/** Undefined unless all are of one. */
export function numberOf(files: Files | undefined): number | undefined {
  const texts = Object.values(files ?? {})
  const isWhole = texts.length === Object.keys(CERT_FILE).length && new Set(texts).size === 1
  return isWhole && texts[0]?.endsWith(PADDING) ? Number.parseInt(texts[0], 10) : undefined
}
