// JSON as issuers of tokens and keys write it, read so that no two readers can take two things from it: a name twice in an
// object is refused (RFC 7519, section 4, leaves that to the reader), and so is what nests deeper than anybody needs.

const MAX_DEPTH = 16

export type JsonObject = { readonly [name: string]: unknown }

/** @throws Error, SyntaxError */
export function parseStrictObject(text: string): JsonObject {
  // Before the parser, which bounds no depth.
  checkStructure(text)
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error('is no JSON object')
  return Object.fromEntries(Object.entries(value))
}

/** A string without an end goes to the text's: its quotes are looked at once. */
const TOKEN = /"(?:[^"\\]|\\.)*"?|[{}[\]:,]/gs

/** Of text that may be no JSON at all, which the parser then says. */
function checkStructure(text: string): void {
  /** Of each open object its names; of a list none. */
  const open: (Set<string> | undefined)[] = []
  let last = ''
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : undefined)
      if (open.length > MAX_DEPTH) throw new Error(`nests deeper than ${MAX_DEPTH}`)
    } else if (token === '}' || token === ']') open.pop()
    else if (token === ':') addName(open.at(-1), last)
    last = token
  }
}

function addName(names: Set<string> | undefined, written: string): void {
  if (names === undefined || !written.startsWith('"')) return
  const name: unknown = JSON.parse(written)
  if (typeof name !== 'string') return
  if (names.has(name)) throw new Error(`has ${JSON.stringify(name.slice(0, 50))} twice in one object`)
  names.add(name)
}
