// One text for each way in which texts may match a list of patterns and not match the rest: no two policies that are written
// with these patterns can tell texts of one class apart. All patterns are walked at once, the shortest texts first.

/** A pattern in parts, from its beginning to its end. */
export type Part =
  | { readonly kind: 'text'; readonly text: string }
  /** Any text; without a slash if it is within a segment; `least` characters or more. */
  | { readonly kind: 'open'; readonly within: boolean; readonly least: 0 | 1 }

export type Pattern = readonly Part[]

/** What texts may be at all. */
export type Grammar = {
  /** Characters that texts may have beside those of the patterns: one of no pattern is among them. */
  readonly others: string
  /** Characters without which there is no text. */
  readonly always?: string
  /** Must a text be left here? Undefined: no text goes on like this. A few values at most. */
  readonly follow?: (state: string, character: string) => string | undefined
  readonly isText: (text: string) => boolean
}

export type Classes = {
  /** The empty text is asked for by whoever needs it. */
  readonly texts: readonly Class[]
  /** Whether all classes were found. */
  readonly complete: boolean
}

export type Class = {
  readonly text: string
  /** Indices of the patterns that match it. */
  readonly matches: readonly number[]
}

const MOST_STATES = 20_000

type Step = { readonly char?: string; readonly within?: boolean; readonly loops: boolean }

const stepsOf = (pattern: Pattern): readonly Step[] =>
  pattern.flatMap((part): readonly Step[] => {
    if (part.kind === 'text') return [...part.text].map(char => ({ char, loops: false }))
    const { within, least } = part
    return [...(least === 1 ? [{ within, loops: false }] : []), { within, loops: true }]
  })

type Walk = {
  readonly text: string
  readonly follows: string
  readonly places: readonly (readonly number[])[]
}

export function classesOf(patterns: readonly Pattern[], grammar: Grammar): Classes {
  const machines = patterns.map(stepsOf)
  const alphabet = alphabetOf(patterns, grammar)
  const found = new Map<string, Class>()
  const start: Walk = { text: '', follows: '', places: machines.map(steps => rest(steps, [0])) }
  const seen = new Set([keyOf(start)])
  const queue = [start]
  for (const walk of queue) {
    for (const character of alphabet) {
      const next = advance(machines, walk, character, grammar)
      if (next === undefined) continue
      record(found, machines, next, grammar)
      const key = keyOf(next)
      if (seen.has(key)) continue
      seen.add(key)
      queue.push(next)
    }
    if (seen.size > MOST_STATES) return { texts: [...found.values()], complete: false }
  }
  return { texts: [...found.values()], complete: true }
}

/** In the order in which texts look best: letters that nobody has written come first. */
function alphabetOf(patterns: readonly Pattern[], { others, always = '' }: Grammar): readonly string[] {
  const written = new Set([
    ...always,
    ...patterns.flatMap(pattern => pattern.flatMap(part => (part.kind === 'text' ? [...part.text] : []))),
  ])
  const free = [...others].find(character => !written.has(character))
  return [...(free === undefined ? [] : [free]), ...written]
}

const keyOf = ({ follows, places }: Walk): string => `${follows}|${places.map(at => at.join()).join(';')}`

/** Beside where it stands, a pattern stands behind whatever open part it may skip. */
function rest(steps: readonly Step[], at: readonly number[]): readonly number[] {
  const all = new Set<number>()
  for (let [place] of at.map(index => [index] as [number])) {
    all.add(place)
    while (steps[place]?.loops) {
      place += 1
      all.add(place)
    }
  }
  return [...all].sort((a, b) => a - b)
}

function advance(
  machines: readonly (readonly Step[])[],
  { text, follows, places }: Walk,
  character: string,
  { follow }: Grammar,
): Walk | undefined {
  const state = follow ? follow(follows, character) : ''
  if (state === undefined) return undefined
  const moved = machines.map((steps, index) =>
    rest(
      steps,
      (places[index] ?? []).flatMap(place => {
        const step = steps[place]
        if (step === undefined || !takes(step, character)) return []
        return step.loops ? [place] : [place + 1]
      }),
    ),
  )
  return { text: text + character, follows: state, places: moved }
}

const takes = ({ char, within }: Step, character: string): boolean =>
  char === undefined ? !(within && character === '/') : char === character

function record(
  found: Map<string, Class>,
  machines: readonly (readonly Step[])[],
  { text, places }: Walk,
  { isText }: Grammar,
): void {
  const matches = machines.flatMap((steps, index) => (places[index]?.includes(steps.length) ? [index] : []))
  const key = matches.join()
  if (!found.has(key) && isText(text)) found.set(key, { text, matches })
}
