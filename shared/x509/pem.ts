// PEM (RFC 7468), strictly: what Postern reads is one block with nothing around it, so that two readers can never
// disagree about which of several blocks counts.

/** The DER bytes of a text that is exactly one block with this label; undefined for anything else. */
export function decodePem(label: string, text: string): Buffer | undefined {
  const begin = `-----BEGIN ${label}-----\n`
  const end = `-----END ${label}-----`
  const body = text.endsWith('\n') ? text.slice(0, -1) : text
  if (!body.startsWith(begin) || !body.endsWith(`\n${end}`)) return undefined
  const base64 = body.slice(begin.length, -end.length).replaceAll('\n', '')
  const bytes = Buffer.from(base64, 'base64')
  // Node skips characters that are not base64: only a faithful reading encodes back to itself.
  return bytes.length > 0 && bytes.toString('base64') === base64 ? bytes : undefined
}

export function encodePem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}
