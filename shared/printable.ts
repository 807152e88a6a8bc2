// Texts of others on a terminal: escape sequences, ends of lines and reversed text are shown instead of obeyed.

const MISLEADING = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu
/** Without what JSON escapes anyway, and without what stands between its values. */
const MISLEADING_IN_JSON = /[\u007f-\u009f\p{Zl}\p{Zp}\p{Bidi_Control}]/gu

export const printable = (text: string): string =>
  text.replace(MISLEADING, character => `\\u{${character.codePointAt(0)?.toString(16)}}`)

/** These stand inside strings alone, where the escape is the same text. */
export const printableJson = (json: string): string =>
  json.replace(MISLEADING_IN_JSON, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
