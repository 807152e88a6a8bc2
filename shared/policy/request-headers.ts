// The headers of a request as conditions ask for them. Where two readers could take two things, nothing is known: a name
// that comes twice, or in two spellings that a gateway such as CGI takes for one.

/** `null`: not known. Undefined: there is none. */
export type HeaderValues = { get(name: string): string | null | undefined }

type Entry = { readonly name: string; readonly value: string | null }

export class RequestHeaders implements HeaderValues {
  readonly #entries = new Map<string, Entry>()

  /** Blanks around a value say nothing (RFC 9110, section 5.5); a tab among them is a value to some readers. */
  add(name: string, value: string): void {
    const lower = name.toLowerCase()
    const key = foldedName(lower)
    const trimmed = value.replace(/^ +| +$/g, '')
    const isKnown = !this.#entries.has(key) && !/^\t|\t$/.test(trimmed)
    this.#entries.set(key, { name: lower, value: isKnown ? trimmed : null })
  }

  get(name: string): string | null | undefined {
    const entry = this.#entries.get(foldedName(name))
    return entry === undefined || entry.name === name ? entry?.value : null
  }
}

/** As a gateway such as CGI could take a name. */
export const foldedName = (name: string): string => name.toLowerCase().replace(/[^0-9a-z]/g, '-')
