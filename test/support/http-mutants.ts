// Bytes that are almost a request, or almost none: named inputs changed as somebody would change them who looks for a place
// where two readers disagree.
const WORDS = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '"',
  '0',
  '1',
  'a',
  '\x0b',
  '\x7f',
  '\x80',
  '\xff',
  '_',
  '%',
  '/',
  '..',
  '\\',
  'GET ',
  'POST ',
  'HEAD ',
  ' HTTP/1.1',
  ' HTTP/1.0',
  'http://a',
  '%2e',
  '%2f',
  '%0a',
  '?',
  '#',
  '*',
  '\r\n\r\n',
  '\r\n ',
  'Host: a\r\n',
  'Host: b\r\n',
  'Content-Length: 5\r\n',
  'Content-Length: 0\r\n',
  'Content-Length: 3\r\n',
  'content-length:5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'transfer-encoding:chunked\r\n',
  'Transfer-Encoding: identity\r\n',
  'Transfer-Encoding: \r\n',
  'Connection: close\r\n',
  'Connection: keep-alive\r\n',
  'Expect: 100-continue\r\n',
  'Upgrade: websocket\r\nConnection: upgrade\r\n',
  'Trailer: x\r\n',
  'TE: trailers\r\n',
  'X: y\r\n',
  '0\r\n\r\n',
  '5\r\nhello\r\n',
  '1;x=y\r\nz\r\n',
  '5\r\nhello\r\n0\r\n\r\n',
  'X: y',
  'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc',
]

/** One mutant of `inputs`, by one to three changes. */
export function mutant(inputs: readonly string[], random: () => number): string {
  const below = (bound: number) => Math.floor(random() * bound)
  const pick = (texts: readonly string[]) => texts[below(texts.length)] ?? ''
  let text = pick(inputs)
  for (let changes = 1 + below(3); changes > 0; changes -= 1) {
    const at = below(text.length + 1)
    const [before, behind] = [text.slice(0, at), text.slice(at)]
    switch (below(8)) {
      case 0:
        text = before + String.fromCharCode(below(256)) + behind.slice(1)
        break
      case 1:
        text = before + behind.slice(1 + below(3))
        break
      case 2:
      case 3:
        text = before + pick(WORDS) + behind
        break
      case 4:
        text = duplicatedLine(text, at)
        break
      case 5:
        text = before + flipped(behind.slice(0, 1)) + behind.slice(1)
        break
      case 6:
        text = atLine(text, at, line => pick(WORDS) + line)
        break
      default:
        text = text + pick(inputs)
    }
  }
  return text
}

const flipped = (letter: string): string =>
  letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase()

const duplicatedLine = (text: string, at: number): string => atLine(text, at, line => line + line)

/** The line around `at`, with its end, replaced. */
function atLine(text: string, at: number, change: (line: string) => string): string {
  const start = text.lastIndexOf('\n', at - 1) + 1
  const found = text.indexOf('\n', at)
  const end = found < 0 ? text.length : found + 1
  return text.slice(0, start) + change(text.slice(start, end)) + text.slice(end)
}
