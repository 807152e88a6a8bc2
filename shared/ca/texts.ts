// The forms of what the CA's request, record and status are made of.
import { text } from '../decode.ts'

export const nameText = text(
  value => value !== '' && value.length <= 512,
  'a string of at most 512 characters, not empty',
)
export const podText = text(
  value => /^[a-z0-9-]{1,63}\/([a-z0-9.-]{1,253}|\*)$/.test(value),
  'a pod as <namespace>/<name>, or all of a namespace as <namespace>/*',
)
/** SHA-256 of a certificate. */
export const fingerprintText = text(value => /^[0-9a-f]{64}$/.test(value), 'a fingerprint of 64 hex digits')
export const timeText = text(value => !Number.isNaN(Date.parse(value)), 'a time as RFC 3339 has it')
