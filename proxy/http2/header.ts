// A header field as HPACK and everything above it see it. Strings hold one byte in each character (latin1): what was
// received is what is sent on, whatever encoding it was meant in.

/** `neverIndexed` is the sender's word that no intermediary may put the value into a table (RFC 7541, section 6.2.3). */
export type Header = readonly [name: string, value: string, neverIndexed?: boolean]

/** RFC 7541, section 4.1, and RFC 9113, section 6.5.2: what an entry of a table or a list counts. */
export const sizeOf = (header: Header): number => header[0].length + header[1].length + 32
