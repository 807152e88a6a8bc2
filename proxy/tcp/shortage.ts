// Failures of a dial that say something of this process, and nothing of who was dialled: no other endpoint would fare better.

const SHORTAGES = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])

/** `error` is one of a socket. */
export const isOwnShortage = (error: Error | undefined): boolean =>
  error !== undefined && 'code' in error && SHORTAGES.has(String(error.code))
