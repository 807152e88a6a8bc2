// The fenced blocks of a Markdown page, for tests that run or parse what it shows.

export type Block = {
  readonly language: string
  readonly text: string
  /** The heading above it. */
  readonly heading: string
}

export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = []
  let heading = ''
  for (const [, title, language = '', text = ''] of markdown.matchAll(
    /^#+ (.+)$|^```(\w*)\n([\s\S]*?)^```$/gm,
  )) {
    if (title !== undefined) heading = title
    else blocks.push({ language, text, heading })
  }
  return blocks
}
