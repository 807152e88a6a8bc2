// Requests that the approver must deny, by what is forged in them.
import type { Forgery } from './cases.ts'
import { forgedKeys } from './forged-keys.ts'
import { forgedNames } from './forged-names.ts'
import { forgedObjects } from './forged-objects.ts'
import { forgedRequesters } from './forged-requesters.ts'
import { forgedStructures } from './forged-structures.ts'

/** Titles as on the page docs/forged-requests.md. */
export const FORGED: Readonly<Record<string, readonly Forgery[]>> = {
  'Who asks': forgedRequesters,
  'The object and its PEM text': forgedObjects,
  'Keys and signatures': forgedKeys,
  'Names in the request': forgedNames,
  'Extensions, attributes and encodings of the request': forgedStructures,
}

export const forged: readonly Forgery[] = Object.values(FORGED).flat()
