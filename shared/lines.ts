// Newline-delimited JSON arrives in chunks of any size: watches of the API server and both ends of the control stream
// cut it into lines here, with a cap, so that a peer that never sends a newline cannot fill the memory.

const NEWLINE = 0x0a

/** Yields complete lines without their newline; empty lines are skipped, an unfinished last line is dropped. */
export async function* lines(source: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<string> {
  let pending: Buffer[] = []
  let size = 0
  for await (const chunk of source) {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = Buffer.concat([...pending, chunk.subarray(start, end)])
      if (line.length > maxBytes) throw new Error(`a line is longer than ${maxBytes} bytes`)
      if (line.length > 0) yield line.toString('utf8')
      pending = []
      size = 0
      start = end + 1
    }
    const rest = chunk.subarray(start)
    size += rest.length
    if (size > maxBytes) throw new Error(`a line is longer than ${maxBytes} bytes`)
    if (rest.length > 0) pending.push(rest)
  }
}
